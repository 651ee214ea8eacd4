from tests.faults.programs import PROJECT_DIR

DOCUMENT = PROJECT_DIR / "docs" / "scaling.md"
# Of `make growth`: what an order takes.
GROWTH = PROJECT_DIR / "docs" / "growth.json"
