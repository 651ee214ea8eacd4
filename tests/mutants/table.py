"""All planted bugs by their names."""

from tests.mutants import archives, invitations, operators, orders, pages, purchases, servers, web

TABLES = [
    purchases.MUTANTS,
    invitations.MUTANTS,
    operators.MUTANTS,
    orders.MUTANTS,
    servers.MUTANTS,
    archives.MUTANTS,
    pages.MUTANTS,
    web.MUTANTS,
]
MUTANTS = {name: mutant for table in TABLES for name, mutant in table.items()}
