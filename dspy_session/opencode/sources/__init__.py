"""Where OpenCode's history comes from: one module for each kind of place."""
