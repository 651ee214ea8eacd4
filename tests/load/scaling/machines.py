"""What a plan rents for the day of a sale, and for how much: one list, from which table and price are made."""

import math

# On demand in us-east-1: an m7g.large has two cores for $0.0816 an hour.
CORES, MACHINE_HOUR, HOURS = 2, 0.0816, 3


def rent(web_cores: int, proxy_cores: int, sales: int, used_cores: float, full: float) -> dict[str, int]:
    """Return how many machines there are of each kind.

    One does it all when that fills its cores no further than `full`; `used_cores` are those of web servers, Redis and
    nginx in the busiest moment. Else each Redis has one to itself, and its replica, too; SQL and the order writer share
    one, as they did when they were measured.
    """
    if used_cores <= CORES * full:
        return {"all": 1}
    return {
        "web": math.ceil(web_cores / CORES),
        "nginx": math.ceil(proxy_cores / CORES),
        "Redis": sales,
        "replicas": sales,
        "SQL and order writer": 1,
    }


def dollars(machines: dict[str, int]) -> float:
    """Return what they cost for the hours of a sale."""
    return sum(machines.values()) * MACHINE_HOUR * HOURS
