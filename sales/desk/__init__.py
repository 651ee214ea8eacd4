"""The operator's desk: the pages of Django's admin, and what an operator can do there."""
