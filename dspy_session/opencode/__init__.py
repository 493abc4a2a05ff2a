"""OpenCode history."""
