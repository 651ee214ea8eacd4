"""All promises, by name, in the order in which they are told: each of the modules declares its own."""

from importlib import import_module

from tests.load.promises.promise import PROMISES

__all__ = ["PROMISES"]

for module in ("purchases", "commands", "operators", "desk", "installations", "processes", "clients"):
    import_module(f"tests.load.promises.{module}")
