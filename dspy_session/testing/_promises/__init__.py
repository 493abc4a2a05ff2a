"""What stores promise, as tests: a module for each kind of promise, and `case`, which all of them stand on."""
