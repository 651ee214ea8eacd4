"""Mirror sales into Redis. Everything here may be repeated: the stock is computed from what is sold, never reset."""

from typing import NamedTuple

from sales import store
from sales.models import Sale


class Standing(NamedTuple):
    """What Redis holds of a sale: units sold, units free (None when unknown there), configuration (empty likewise)."""

    sold: int
    remaining_stock: int | None
    config: dict[str, str]

    def is_mirrored(self, sale: Sale) -> bool:
        """Return whether Redis holds the sale as SQL has it."""
        expected = sale.mirror() | {"total_stock": sale.total_stock}
        return self.config == {name: str(value) for name, value in expected.items()}


class Refused(Exception):
    """Redis did not take the configuration, for the reason and with the remedy that the message gives."""

    def __init__(self, message: str, standing: Standing, *, is_below_sold: bool):
        super().__init__(message)
        self.standing, self.is_below_sold = standing, is_below_sold


def publish(sale: Sale) -> Standing:
    """Mirror `sale` as it is in SQL, or take it from the shoppers when it is not published. Safe to repeat.

    Raises Refused when the total is below the units sold, or when Redis knows of fewer purchases than SQL;
    store.Unavailable when Redis cannot be reached.
    """
    try:
        if sale.published:
            _publish(sale)
        else:
            _unpublish(sale)
        store.client().set(store.MIRRORED, 1)
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    return standing(sale)


def publish_all() -> list[tuple[Sale, Standing | Refused]]:
    """Mirror every published sale, and return what came of each. Safe to repeat. Raises store.Unavailable."""
    results: list[tuple[Sale, Standing | Refused]] = []
    for sale in Sale.objects.filter(published=True):
        try:
            results.append((sale, publish(sale)))
        except Refused as refused:
            results.append((sale, refused))
    try:
        store.client().set(store.MIRRORED, 1)
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    return results


def standing(sale: Sale) -> Standing:
    """Return what Redis holds of a sale. Raises store.Unavailable."""
    try:
        pipeline = store.client().pipeline(transaction=False)
        pipeline.hlen(store.key(sale.id, "purchases"))
        pipeline.get(store.key(sale.id, "stock"))
        pipeline.hgetall(store.key(sale.id, "config"))
        sold, stock, config = pipeline.execute()
    except store.RedisError as error:
        raise store.Unavailable(str(error)) from error
    return Standing(
        sold, None if stock is None else int(stock), {name.decode(): value.decode() for name, value in config.items()}
    )


def _publish(sale: Sale) -> None:
    config = sale.mirror()
    outcome, sold = store.run_script_blocking(
        "publish",
        [store.key(sale.id, name) for name in ("config", "stock", "purchases", "orders")],
        [sale.total_stock, sale.orders.count(), store.WRITERS, *(word for pair in config.items() for word in pair)],
    )
    if outcome == b"below_sold":
        message = f"{sold} units are sold already: set the total stock to {sold} or more."
        raise Refused(message, standing(sale), is_below_sold=True)
    if outcome == b"behind":
        message = (
            f"Redis knows of {sold} purchases, but {sale.orders.count()} orders are in SQL: Redis has lost data. "
            "The sale is not published, so that no unit is sold twice."
        )
        raise Refused(message, standing(sale), is_below_sold=False)
    store.client().hset(store.DIRECTORY, sale.slug, f"{sale.id} {config['starts_ms']} {config['ends_ms']}")


def _unpublish(sale: Sale) -> None:
    """Take the sale from the directory and close it. Its purchases, stock and stream stay."""
    store.client().hdel(store.DIRECTORY, sale.slug)
    store.client().delete(store.key(sale.id, "config"))
