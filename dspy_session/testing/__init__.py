"""A test kit for programs that use this library, and for stores that implement its contract.

`lm` has a scripted model; `store_suite` has the conformance suite of stores.
"""
