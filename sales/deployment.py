"""Whether the settings are fit for the internet: hosts, HTTPS, the secret key, and what Django itself checks."""

from contextlib import suppress

from django.conf import settings
from django.core import checks

from flashsale.places import WEB_ADDRESS
from sales.findings import Finding, failure, ok, warning

LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]", "::1"}
# What Django says of a site that is not served over HTTPS.
HTTPS_IDS = [
    f"security.{name}" for name in ("W004", "W005", "W008", "W010", "W011", "W012", "W015", "W016", "W017", "W021")
]
REMEDIES = {
    **dict.fromkeys(HTTPS_IDS, "Set HTTPS=on, once a proxy serves every page over HTTPS."),
    "security.W009": "Set SECRET_KEY to the output of: python -c 'import secrets; print(secrets.token_urlsafe(48))'",
    "security.W018": "Set DEBUG=off.",
    "security.W020": "Set ALLOWED_HOSTS to the host names that shoppers type.",
}
EXPECTED_LOCALLY = "Expected on this machine alone, as under `make run`."


def findings() -> list[Finding]:
    """Return one finding on the hosts, and one for each thing that Django's own checks say of a deployment."""
    messages = checks.run_checks(include_deployment_checks=True)
    said = [_finding(message) for message in sorted(messages, key=lambda message: message.id or "")]
    return [_hosts()._replace(name="hosts"), *(said or [ok("They find nothing.")._replace(name="Django's checks")])]


def is_local() -> bool:
    """Return whether only browsers on this machine are served."""
    return set(settings.ALLOWED_HOSTS) <= LOCAL_HOSTS


def _hosts() -> Finding:
    hosts = ", ".join(settings.ALLOWED_HOSTS)
    if is_local():
        return warning(
            f"ALLOWED_HOSTS is {hosts}: shoppers on other machines are refused.",
            f"{EXPECTED_LOCALLY} Elsewhere set it to the host names that shoppers type.",
        )
    if "*" in settings.ALLOWED_HOSTS:
        return warning("ALLOWED_HOSTS takes any name.", "Set it to the host names that shoppers type.")
    return ok(f"Served as {hosts}.")


def _finding(message: checks.CheckMessage) -> Finding:
    """Return what Django says, with its own hint or ours."""
    name, reason = message.id or "Django's checks", " ".join(str(message.msg).split())
    remedy = str(message.hint or REMEDIES.get(name, "Django's list of system checks tells more."))
    if message.level >= checks.ERROR:
        return failure(reason, remedy)._replace(name=name)
    is_expected = is_local() and name in HTTPS_IDS
    return warning(reason, f"{EXPECTED_LOCALLY} {remedy}" if is_expected else remedy)._replace(name=name)


def own_addresses() -> list[str]:
    """Return where a web server of this machine may answer: where `make run` says, which a crash leaves behind, and on
    PORT."""
    host = "127.0.0.1" if settings.BIND in ("0.0.0.0", "[::]") else settings.BIND
    found = [f"http://{host}:{settings.PORT}"]
    with suppress(OSError, ValueError):
        found.insert(0, WEB_ADDRESS.read_text().strip())
    return list(dict.fromkeys(found))
