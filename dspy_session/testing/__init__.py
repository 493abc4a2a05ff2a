"""A test kit for programs that use this library, and for stores that implement its contract."""
