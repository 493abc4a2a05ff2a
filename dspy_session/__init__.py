"""dspy-session."""
