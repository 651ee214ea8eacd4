"""deploy/grafana: the dashboard and the alerts are well-formed, and ask for what /metrics says."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from django.core.management import call_command
from prometheus_client.parser import text_string_to_metric_families

from sales.models import Sale
from sales.outcomes import OF_ATTEMPTS
from tests import parts
from tests.redis_servers import wait_until
from tests.servers import WebServer


@pytest.fixture
def alerts(project_dir: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((project_dir / "deploy/grafana/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture
def dashboard(project_dir: Path) -> dict[str, Any]:
    return json.loads((project_dir / "deploy/grafana/dashboard.json").read_text())


class Said(NamedTuple):
    """What /metrics says, of which sale, and between which moments that was audited."""

    text: str
    slug: str
    audited_after: float
    audited_before: float


@pytest.fixture
def said(request: pytest.FixtureRequest) -> Said:
    """What /metrics says once somebody has bought and the sale was audited. Each process asks once."""
    return _said[0] if _said else request.getfixturevalue("asked_anew")


_said: list[Said] = []


@pytest.fixture
def asked_anew(server: WebServer, open_sale: Sale, seen: Callable[[], None]) -> Said:
    seen()
    httpx.post(f"{server.url}/api/sale/purchase", json={"userId": "ada"}).raise_for_status()
    call_command("write_orders", once=True)
    began = time.time()
    call_command("audit_sale", open_sale.slug)
    ended = time.time()
    texts = [""]

    def is_whole() -> bool:
        texts.append(httpx.get(f"{server.url}/metrics").text)
        return "flashsale_attempts_total{" in texts[-1] and "flashsale_audit_drift_kinds{" in texts[-1]

    wait_until(is_whole, "all is told", within_seconds=60)
    _said.append(Said(texts[-1], open_sale.slug, began, ended))
    return _said[0]


@pytest.fixture
def told(said: Said) -> dict[str, set[str]]:
    """The metrics that are told, and their labels."""
    samples = [sample for family in text_string_to_metric_families(said.text) for sample in family.samples]
    found: dict[str, set[str]] = {"up": {"job", "instance"}}  # Prometheus's own
    for sample in samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def unknown(expression: str, told: dict[str, set[str]]) -> list[str]:
    """Return the metrics and labels of an expression that are not among those that are told."""
    plain = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expression)
    found = set(re.findall(r"\bflashsale_\w+|\bup\b", plain))
    assert found, f"{expression}: it asks for nothing"
    wrong = [name for name in found if name not in told]
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
        wrong += [label for label in re.findall(r"(\w+)\s*(?:=|!)", matchers) if label not in told.get(name, ())]
    labels = set().union(*(told.get(name, set()) for name in found))
    for grouping in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        wrong += [label for label in re.split(r",\s*", grouping) if label not in labels]
    return wrong


def test_every_expression_uses_existing_metrics(
    told: dict[str, set[str]], alerts: list[dict[str, Any]], dashboard: dict[str, Any]
):
    asked = [rule["expr"] for rule in alerts] + expressions(dashboard)

    assert len(asked) > 30
    assert {expression: wrong for expression in asked if (wrong := unknown(expression, told))} == {}
    outcomes = set(re.findall(r'outcome="(\w+)"', "".join(asked)))
    assert outcomes
    assert outcomes <= set(OF_ATTEMPTS)


def test_a_clean_audit_appears_in_the_metrics(said: Said):
    audited = re.search(rf'flashsale_audit_timestamp_seconds{{sale="{said.slug}"}} (\S+)', said.text)

    assert f'flashsale_audit_drift_kinds{{sale="{said.slug}"}} 0.0' in said.text
    assert audited
    assert said.audited_after - 1 <= float(audited[1]) <= said.audited_before + 1


def test_every_metric_is_shown_or_alerted_on(
    told: dict[str, set[str]], dashboard: dict[str, Any], alerts: list[dict[str, Any]]
):
    asked = " ".join(expressions(dashboard) + [rule["expr"] for rule in alerts])
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in told} - {"up"}

    assert {name for name in families if name not in asked} == {"flashsale_audit_timestamp_seconds"}


@pytest.mark.pure
def test_the_dashboard_has_a_place_for_each_panel(dashboard: dict[str, Any]):
    panels = dashboard["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert all(panel["title"] for panel in panels)


@pytest.mark.pure
def test_operations_explains_every_alert(project_dir: Path, alerts: list[dict[str, Any]]):
    explained = re.findall(r"^\| `(Flashsale\w+)` \|", (project_dir / "docs/operations.md").read_text(), re.MULTILINE)

    assert explained == [rule["alert"] for rule in alerts]
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in alerts)


def test_operations_names_every_metric(told: dict[str, set[str]], project_dir: Path):
    documented = set(re.findall(r"`(flashsale_\w+)`", (project_dir / "docs/operations.md").read_text()))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in told} - {"up"}

    assert documented == families


# Prometheus's own word


def promtool(*arguments: str | Path, given: bytes = b"", directory: Path | None = None) -> None:
    """Fail with what promtool says, unless it finds nothing wrong."""
    binary = parts.need("promtool")
    found = subprocess.run([binary, *arguments], input=given, capture_output=True, cwd=directory)
    assert found.returncode == 0, (found.stdout + found.stderr).decode()


def test_prometheus_accepts_the_metrics(said: Said):
    promtool("check", "metrics", given=said.text.encode())


def test_each_alert_fires_in_time_and_not_before(project_dir: Path, alerts: list[dict[str, Any]]):
    tests = yaml.safe_load((project_dir / "tests/alerts.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in alerts}

    assert {case["alertname"] for case in cases if "exp_alerts" in case} == names
    assert {case["alertname"] for case in cases if "exp_alerts" not in case} == names
    promtool("test", "rules", project_dir / "tests/alerts.yml")


def test_prometheus_takes_every_expression_of_the_dashboard(dashboard: dict[str, Any], tmp_path: Path):
    variables = {"$__rate_interval": "1m", "$sale": ".*"}
    filled = [re.sub(r"\$\w+", lambda found: variables[found[0]], one) for one in expressions(dashboard)]
    rules = [{"record": f"asked:{number}", "expr": one} for number, one in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    promtool("check", "rules", tmp_path / "rules.yml")


def test_prometheus_takes_the_configuration_of_the_guide(project_dir: Path, tmp_path: Path):
    (block,) = re.findall(
        r"```yaml\n(rule_files.*?)```", (project_dir / "docs/operations.md").read_text(), flags=re.DOTALL
    )
    (tmp_path / "prometheus.yml").write_text(block)
    shutil.copy(project_dir / "deploy/grafana/alerts.yml", tmp_path)

    promtool("check", "config", "prometheus.yml", directory=tmp_path)
