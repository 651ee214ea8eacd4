"""manage.py preflight: prove before a sale that everything is ready."""

import json
import shutil
import textwrap
from argparse import ArgumentParser
from contextlib import suppress
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from sales import preflight, rehearsal
from sales.findings import VERDICTS, Finding, summary, worst
from sales.management.arguments import sale_of

NO_SUCH_SALE = 2
WIDEST = 120


class Command(BaseCommand):
    help = (
        "Check that everything a sale needs is ready. Exit status 0 when nothing failed, also with warnings, "
        "1 when something failed, 2 when there is no such sale."
    )
    # What Django would check before, and stop at, is checked here and told with the rest.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the sale")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--rehearse", action="store_true", help="let a simulated crowd buy in a sale of its own")
        parser.add_argument(
            "--address",
            default="",
            help="the web server to rehearse with; by default the one of make run, or on PORT here",
        )

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        try:
            with suppress(DatabaseError):  # the checks tell of it
                sale_of(slug)
        except CommandError as error:
            error.returncode = NO_SUCH_SALE
            raise
        findings = preflight.run(partial(sale_of, slug))
        if options["rehearse"]:
            self.stderr.write("Rehearsing, which takes some seconds …", self.style.NOTICE)
            findings += rehearsal.rehearse(options["address"].rstrip("/"))
        if options["json"]:
            report = {"slug": slug, "verdict": worst(findings), "checks": [finding.as_json() for finding in findings]}
            self.stdout.write(json.dumps(report, indent=2))
        else:
            self.stdout.write(self._text(slug, findings))
        if worst(findings) == "failure":
            raise SystemExit(1)

    def _text(self, slug: str, findings: list[Finding]) -> str:
        """Return the findings as an aligned table, as wide as the terminal."""
        styles = dict(zip(VERDICTS, (self.style.SUCCESS, self.style.WARNING, self.style.ERROR), strict=True))
        widest_verdict, widest_name = max(map(len, VERDICTS)), max(len(finding.name) for finding in findings)
        margin = widest_verdict + widest_name + 6
        width = min(WIDEST, shutil.get_terminal_size().columns) - margin
        lines = [f"{slug} is {summary(findings)}.", ""]
        for finding in findings:
            remedy = textwrap.wrap(finding.remedy, width, initial_indent="→ ", subsequent_indent="  ")
            first, *others = textwrap.wrap(finding.reason, width) + remedy
            verdict = styles[finding.verdict](f"{finding.verdict:<{widest_verdict}}")
            lines.append(f"  {verdict}  {finding.name:<{widest_name}}  {first}")
            lines += [f"{'':{margin}}{line}" for line in others]
        return "\n".join(lines)
