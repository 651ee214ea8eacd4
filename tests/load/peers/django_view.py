"""The purchase endpoint as a plain Django view, for gunicorn's gthread workers. It reads PEER_REDIS_SOCKET."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import django
import redis
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    SECRET_KEY="only-for-the-bench",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
)
django.setup()

KEYS = [f"peer:{name}" for name in ("config", "stock", "purchases", "keys", "orders")]
HTTP_STATUS = {"purchased": 200, "replayed": 200, "idempotency_key_reused": 422}

client = redis.Redis(unix_socket_path=os.environ["PEER_REDIS_SOCKET"], decode_responses=True)
decide = client.register_script(Path(__file__).with_name("purchase.lua").read_text())


@csrf_exempt
def purchase(request: HttpRequest) -> JsonResponse:
    try:
        user_id = json.loads(request.body)["userId"].strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        user_id = ""
    if not user_id or len(user_id) > 254:
        return JsonResponse({"success": False, "code": "invalid_request", "message": "Send a userId."}, status=400)
    try:
        outcome, order_id, remaining = decide(KEYS, [user_id, request.headers.get("Idempotency-Key", "")])
    except redis.RedisError as error:
        return JsonResponse({"success": False, "code": "unavailable", "message": str(error)}, status=503)
    body = {
        "success": outcome in ("purchased", "replayed"),
        "message": outcome,
        "remainingStock": remaining,
        "code": outcome,
    }
    if order_id:
        body |= {"orderId": order_id, "purchaseTime": _iso(int(order_id.partition("-")[0]))}
    return JsonResponse(body, status=HTTP_STATUS.get(outcome, 409))


def status(request: HttpRequest) -> JsonResponse:
    pipeline = client.pipeline(transaction=False)
    pipeline.hmget("peer:config", "starts_ms", "ends_ms")
    pipeline.get("peer:stock")
    (starts_ms, ends_ms), stock = pipeline.execute()
    now_ms = datetime.now(UTC).timestamp() * 1000
    word = "upcoming" if now_ms < int(starts_ms) else "ended" if now_ms >= int(ends_ms) else "active"
    return JsonResponse(
        {
            "status": word,
            "startTime": _iso(int(starts_ms)),
            "endTime": _iso(int(ends_ms)),
            "remainingStock": int(stock),
            "serverTime": _iso(now_ms),
        }
    )


def _iso(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


urlpatterns = [path("api/sale/purchase", purchase), path("api/sale/status", status)]
application = WSGIHandler()
