"""Where uploaded pictures are kept: on this machine, or in a bucket, as `s3://bucket/prefix?region=…` says."""

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

# A picture's name is the digest of its content.
FOR_GOOD = "public, max-age=31536000, immutable"
OPTIONS = {"region", "endpoint", "public"}


class MediaStorage(NamedTuple):
    """`backend` is Django's setting; `origin` is where browsers get pictures from, "" for our own address."""

    backend: dict[str, Any]
    origin: str = ""


def parse_media_storage(value: str) -> MediaStorage:
    """Return the storage that `local` or an s3:// address names. Raises ValueError."""
    if value == "local":
        return MediaStorage({"BACKEND": "django.core.files.storage.FileSystemStorage"})
    bucket, prefix, options = _parts(value)
    endpoint, region = options.get("endpoint", "").rstrip("/"), options.get("region")
    if not (endpoint or region):
        raise ValueError(f"{value!r} has no region, like s3://{bucket}/pictures?region=eu-central-1")
    public = options.get("public") or (f"{endpoint}/{bucket}" if endpoint else "")
    scheme, host, path = _web_address(public or f"https://{bucket}.s3.{region}.amazonaws.com")
    settings = {
        "bucket_name": bucket,
        "location": prefix,
        "region_name": region,
        "endpoint_url": endpoint or None,
        # Addresses are made of these, without asking anybody: they do not expire, and are the same for everyone.
        "custom_domain": host + path,
        "url_protocol": f"{scheme}:",
        "querystring_auth": False,
        "signature_version": "s3v4",
        "object_parameters": {"CacheControl": FOR_GOOD, "ContentType": "image/webp"},
    }
    return MediaStorage({"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": settings}, f"{scheme}://{host}")


def _parts(value: str) -> tuple[str, str, dict[str, str]]:
    """Return bucket, prefix and options of an s3:// address."""
    url = urlsplit(value)
    if url.scheme != "s3" or not url.netloc:
        raise ValueError(f"{value!r} is neither `local` nor like s3://bucket/prefix?region=eu-central-1")
    if "@" in url.netloc:
        raise ValueError("an s3:// address takes no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if unknown := options.keys() - OPTIONS:
        raise ValueError(f"{', '.join(sorted(unknown))} is none of {', '.join(sorted(OPTIONS))}")
    for name in options.keys() & {"endpoint", "public"}:
        _web_address(options[name])
    return url.netloc, url.path.strip("/"), options


def _web_address(value: str) -> tuple[str, str, str]:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.netloc or url.query:
        raise ValueError(f"{value!r} is not an address like https://pictures.example.com")
    return url.scheme, url.netloc, url.path.rstrip("/")
