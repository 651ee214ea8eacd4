"""/metrics: Prometheus text for whoever may read it."""

import asyncio
from collections.abc import Iterable, Iterator
from hmac import compare_digest

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from sales import gauges, identities, metrics, metrics_files, snapshots
from sales.addresses import is_from
from sales.endpoints import Answer, Refused, endpoint
from sales.headers import OF_DATA, Headers

HEADERS = Headers({"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store", **OF_DATA})

WRONG_TOKEN = "Metrics are for who sends METRICS_TOKEN: Authorization: Bearer TOKEN."  # noqa: S105
IN_USE = "Another reader of the metrics does not end. Ask again in a moment."
FOREIGN_NETWORK = "Metrics are for the networks of METRICS_NETWORKS. Ask from inside, or set METRICS_TOKEN and send it."


@endpoint("GET", "HEAD")
async def read(request: HttpRequest) -> HttpResponse:
    _check_may_read(request)
    found = await gauges.read()
    sales = {"", *gauges.told_sales()} if snapshots.last_known_directory() else None
    try:
        # Files are read: the shoppers of this worker must not wait for it.
        return Answer(await asyncio.to_thread(_text, found, sales), 200, HEADERS)
    except TimeoutError:
        raise Refused("unavailable", IN_USE) from None


def _check_may_read(request: HttpRequest) -> None:
    """Raise Refused unless the asker has the token or, where none is set, is in one of the networks."""
    if settings.DEBUG:
        return
    if settings.METRICS_TOKEN:
        if not compare_digest(identities.bearer(request).encode(), settings.METRICS_TOKEN.encode()):
            raise Refused("unauthorized", WRONG_TOKEN)
    elif not is_from(settings.METRICS_NETWORKS, request.META):
        raise Refused("forbidden", FOREIGN_NETWORK)


def _text(found: Iterable[Metric], sales: set[str] | None) -> bytes:
    """Return what was `found`, and what all workers of this machine counted; of `sales` alone, where they are known."""
    registry = CollectorRegistry()
    registry.register(_Gathered(found, sales))
    return generate_latest(registry)


class _Gathered:
    def __init__(self, found: Iterable[Metric], sales: set[str] | None):
        self._found, self._sales = found, sales

    def collect(self) -> Iterator[Metric]:
        yield from self._found
        for metric in _counted():
            if self._sales is not None:
                metric.samples = [one for one in metric.samples if one.labels.get("sale", "") in self._sales]
            yield metric


def _counted() -> Iterable[Metric]:
    """Return the sums over the workers' files; outside of gunicorn, what this process alone has counted."""
    if settings.METRICS_DIR.is_dir():
        return metrics_files.read_sums(settings.METRICS_DIR)
    return metrics.REGISTRY.collect()
