"""What one order writer moves into PostgreSQL, which plans for many machines need."""

from typing import Any

from tests.load.bench.contenders import FlashSale
from tests.load.bench.measure import machine
from tests.load.growth.purchases import fill, write_orders
from tests.postgresql import PostgresServer

ORDERS, ROUNDS = 50_000, 5


class OnPostgresql(FlashSale):
    """This project, with its orders in a PostgreSQL server."""

    def __init__(self, database_url: str):
        self._database_url = database_url

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"DATABASE_URL": self._database_url}


def measure_saturation() -> dict[str, Any]:
    """Return how many orders a second the writer commits, and where: PostgreSQL and Redis are on the same machine."""
    server = PostgresServer()
    try:
        server.start()
        points = [_measure(server, f"round_{number}") for number in range(ROUNDS)]
        version = server.execute("SHOW server_version")[0][0].split()[0]
    finally:
        server.remove()
    return {"machine": machine(), "sql": f"PostgreSQL {version}", "points": points}


def _measure(server: PostgresServer, database: str) -> dict[str, float]:
    server.execute(f"CREATE DATABASE {database}")
    with OnPostgresql(server.url(database)) as flashsale:
        fill(flashsale, ORDERS)
        seconds = write_orders(flashsale)
    ((rows,),) = server.execute("SELECT count(*) FROM sales_order", database)
    assert rows == ORDERS, rows
    print(f"  {ORDERS / seconds:,.0f} orders/s into PostgreSQL", flush=True)
    return {"rows_per_second": ORDERS / seconds}
