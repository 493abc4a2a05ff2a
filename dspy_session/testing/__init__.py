"""Test kit for programs and stores that build on this library."""
