"""Fuzzers: what clients send by mistake or on purpose, against the real server. `make fuzz` runs them."""
