"""Whether the static files are to be gathered: pages cannot be rendered without them."""

from flashsale import settings


def is_due() -> bool:
    """Return whether they were never gathered, or have changed since. With DEBUG they are served from their sources."""
    manifest = settings.STATIC_ROOT / "staticfiles.json"
    sources = [settings.BASE_DIR / "requirements.txt", *(settings.BASE_DIR / "static").rglob("*")]
    if settings.DEBUG:
        return False
    return not manifest.exists() or any(source.stat().st_mtime > manifest.stat().st_mtime for source in sources)
