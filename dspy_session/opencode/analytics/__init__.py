"""Questions about OpenCode's history, answered: reports over tables that are kept in step with it."""
