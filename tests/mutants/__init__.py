"""Planted bugs: each must be caught by the tests that are named for it. `make mutants` runs them."""
