"""What is saved of a sale, in words: its operator sees how numbers and times were understood."""

from sales import formats
from sales.clock import beside_utc
from sales.models import Sale


def saved_words(sale: Sale) -> dict[str, str]:
    """Return what is saved of a sale in words, for each field whose text can be misread."""
    price = {"display_price": formats.price(sale.price_text())} if sale.price_text() else {}
    units = "1 unit" if sale.total_stock == 1 else f"{formats.number(sale.total_stock)} units"
    times = {name: beside_utc(getattr(sale, name)) for name in ("starts_at", "ends_at")}
    return {"total_stock": units, **price, **times}


def saved_line(sale: Sale) -> str:
    """Return what is saved of a sale in one line, like “1,000 units at €49.90, from … to …”."""
    words = saved_words(sale)
    price = f" at {words['display_price']}" if "display_price" in words else ""
    return f"{words['total_stock']}{price}, from {words['starts_at']} to {words['ends_at']}"
