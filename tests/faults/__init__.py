"""Faults: what the system promises is held while something breaks, by load, one fault, and one checker afterwards."""
