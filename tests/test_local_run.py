"""`make run` itself, in a copy of the project: start, buy, Ctrl-C, start again, still there."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests import prepared
from tests.faults.databases import prepared_var_dir
from tests.servers import free_port

# Whoever waits goes on as soon as it has come: a machine may be slow.
COMES_WITHIN_SECONDS = 300


class Run:
    """One `make run` in a terminal of its own."""

    def __init__(self, directory: Path, target: str = "run", log: str = "output.txt"):
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.directory = directory
        self._output = directory / log
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with self._output.open("wb") as output:
            self.popen = subprocess.Popen(
                ["make", target, f"PORT={self.port}", f"VENV={prepared.venv()}"],
                cwd=directory,
                env=inherited,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_until_open(self) -> None:
        deadline = time.monotonic() + COMES_WITHIN_SECONDS
        while "Ctrl-C" not in self.output:
            assert self.popen.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.popen.pid).children(recursive=True)

    def end(self) -> None:
        """Stop it, if it still runs."""
        if self.popen.poll() is None:
            self.press_ctrl_c()

    def press_ctrl_c(self) -> None:
        """Send what a terminal sends, and wait until `make` is gone."""
        os.killpg(self.popen.pid, signal.SIGINT)
        self.popen.wait(timeout=COMES_WITHIN_SECONDS)


def copy_project(directory: Path, project_dir: Path) -> Path:
    """Return the project as a clone has it, in a folder so deep that its socket's path is too long, with a difficult
    name."""
    copy = directory / ("deep " * 10).strip() / ("é#%20" * 12) / "clone"
    ignored = shutil.ignore_patterns(".git", ".venv", ".env", "var", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(project_dir, copy, ignore=ignored)
    return copy


def gather(var_dir: Path) -> None:
    """Have the static files there, as after a first run."""
    shutil.copytree(prepared_var_dir() / "static", var_dir / "static")


@pytest.fixture
def project_copy(tmp_path: Path, project_dir: Path) -> Path:
    return copy_project(tmp_path, project_dir)


@pytest.fixture
def first_run(project_copy: Path) -> Iterator[Run]:
    """A start from nothing, as in a fresh clone."""
    run = Run(project_copy)
    run.wait_until_open()
    yield run
    run.end()


@pytest.fixture(scope="module")
def runs() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.end()


@pytest.fixture
def running(runs: list[Run], tmp_path: Path, project_dir: Path) -> Run:
    """A `make run` that other tests have used, if it still runs."""
    if not runs or runs[-1].popen.poll() is not None:
        copy = copy_project(tmp_path, project_dir)
        gather(copy / "var")
        runs.append(Run(copy))
        runs[-1].wait_until_open()
    return runs[-1]


def buy(run: Run, user_id: str) -> dict:
    return httpx.post(f"{run.url}/api/sale/purchase", json={"userId": user_id}).json()


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return which processes do not end; one that only its parent has yet to reap has ended."""
    _, alive = psutil.wait_procs(processes, timeout=COMES_WITHIN_SECONDS)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def order_in_sql(directory: Path, user_id: str) -> str:
    """Read an order as a script would: from SQL, once the order writer has written it."""
    deadline = time.monotonic() + COMES_WITHIN_SECONDS
    while time.monotonic() < deadline:
        with sqlite3.connect(directory / "var" / "db.sqlite3") as database:
            query = "SELECT order_id FROM sales_order WHERE user_id = ?"
            if row := database.execute(query, [user_id]).fetchone():
                return row[0]
        time.sleep(0.1)
    return "none"


def manage(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=COMES_WITHIN_SECONDS
    )


def buy_again(run: Run, user_id: str) -> dict[str, str]:
    """Return the answer to a purchase once Redis, which has started again, was compared with SQL."""
    deadline = time.monotonic() + COMES_WITHIN_SECONDS
    while True:
        answer: dict[str, str] = httpx.post(f"{run.url}/api/sales/widget/purchase", json={"userId": user_id}).json()
        if answer["code"] != "unavailable" or time.monotonic() > deadline:
            return answer
        time.sleep(0.1)


def test_start_buy_stop_start_again(project_copy: Path, first_run: Run):
    status = httpx.get(f"{first_run.url}/api/sale/status").json()
    assert (status["productName"], status["totalStock"], status["status"]) == ("Limited Edition Widget", 100, "active")
    assert f"http://localhost:{first_run.port}/admin/" in first_run.output
    assert len(first_run.output.splitlines()) <= 10, first_run.output

    password_file = project_copy / "var" / "admin_password"
    password = password_file.read_text().strip()
    assert password_file.stat().st_mode & 0o777 == 0o600
    assert password in first_run.output
    with httpx.Client(base_url=first_run.url, follow_redirects=True) as client:
        client.get("/admin/login/")
        form = {"username": "admin", "password": password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        assert "The operator&#x27;s desk" in client.post("/admin/login/?next=/admin/", data=form).text

    order_id = buy(first_run, "ada@example.com")["orderId"]
    assert order_in_sql(project_copy, "ada@example.com") == order_id
    assert (project_copy / "var" / "db.sqlite3").stat().st_mode & 0o077 == 0
    created = manage(project_copy, "create_sale", "--name", "Second", "--stock", "5")
    assert created.returncode == 0, created.stderr
    assert '"slug": "second"' in created.stdout

    remembered = project_copy / "var" / "web_address"
    assert remembered.read_text() == f"http://127.0.0.1:{first_run.port}"

    processes = first_run.processes()
    assert len(processes) >= 4
    first_run.press_ctrl_c()
    assert "Traceback" not in first_run.output
    assert "Error" not in first_run.output
    assert still_running(processes) == []
    assert not remembered.exists()
    assert not [
        link
        for link in Path("/tmp").glob("flashsale-*")
        if link.is_symlink() and project_copy in link.readlink().parents
    ]

    again = Run(project_copy)
    try:
        again.wait_until_open()
        repeated = buy_again(again, "ada@example.com")
        audit = manage(project_copy, "audit_sale")
    finally:
        again.press_ctrl_c()

    assert (repeated["code"], repeated["orderId"]) == ("already_purchased", order_id)
    assert password in again.output
    assert audit.returncode == 0, audit.stdout


@pytest.mark.long
@pytest.mark.parametrize("name", ["valkey-server", "write_orders", "flashsale.gunicorn"])
def test_a_killed_process_is_started_again(running: Run, name: str):
    def alive() -> dict[int, psutil.Process]:
        return {process.pid: process for process in running.processes() if name in command_line(process)}

    assert buy(running, name)["code"] == "purchased"
    before = alive()

    before[min(before)].kill()  # of gunicorn's processes the first is the master

    deadline = time.monotonic() + COMES_WITHIN_SECONDS
    while min(before) in alive() or not alive().keys() - before.keys():
        assert time.monotonic() < deadline, running.output
        time.sleep(0.05)
    while True:
        try:
            if buy(running, name)["code"] == "already_purchased":
                break
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, running.output
        time.sleep(0.05)


@pytest.mark.long
def test_a_second_run_on_the_same_data_is_refused(running: Run):
    second = Run(running.directory, log="second.txt")

    try:
        assert second.popen.wait(timeout=COMES_WITHIN_SECONDS) != 0
    finally:
        second.end()
    assert "already running" in second.output
    assert "Traceback" not in second.output


@pytest.mark.long
def test_killing_the_runner_leaves_nothing_behind(running: Run):
    processes = running.processes()
    (runner,) = [process for process in processes if "flashsale.local" in command_line(process)]

    runner.kill()

    assert still_running(processes) == []
    running.popen.wait(timeout=COMES_WITHIN_SECONDS)


@pytest.mark.long
def test_settings_from_the_env_file_are_used(project_copy: Path):
    gather(project_copy / "elsewhere")
    (project_copy / ".env").write_text("VAR_DIR=elsewhere\nALLOWED_HOSTS=shop.example.com\nUSER_RATE=1/h\n")
    run = Run(project_copy)
    try:
        run.wait_until_open()
        host = {"Host": "shop.example.com"}
        answers = [
            httpx.post(f"{run.url}/api/sale/purchase", json={"userId": "ada"}, headers=host).json()["code"]
            for _ in range(2)
        ]
        refused = httpx.get(f"{run.url}/api/sale/status").status_code
    finally:
        run.press_ctrl_c()

    assert answers == ["purchased", "rate_limited"]
    assert refused == 400
    assert (project_copy / "elsewhere" / "db.sqlite3").exists()
    assert not (project_copy / "var").exists()


@pytest.mark.long
@pytest.mark.parametrize("made", ["run.lock", "db.sqlite3", "static"])
def test_ctrl_c_while_it_starts_leaves_nothing_behind(project_copy: Path, made: str):
    run = Run(project_copy)
    deadline = time.monotonic() + COMES_WITHIN_SECONDS
    while not (project_copy / "var" / made).exists():
        assert time.monotonic() < deadline, run.output
        time.sleep(0.01)
    processes = run.processes()

    run.press_ctrl_c()

    assert still_running(processes) == []
    assert "Traceback" not in run.output


@pytest.mark.long
def test_make_dev_shows_what_has_changed(project_copy: Path):
    run = Run(project_copy, target="dev")
    try:
        run.wait_until_open()
        template = project_copy / "templates" / "sales" / "page.html"
        template.write_text(template.read_text().replace("The shop's clock counts, not yours.", "Changed."))
        view = project_copy / "sales" / "api.py"
        view.write_text(view.read_text().replace('{"status": "ok", "pid"', '{"status": "changed", "pid"'))

        deadline = time.monotonic() + COMES_WITHIN_SECONDS
        while True:
            try:
                live, page = httpx.get(f"{run.url}/health/live").json(), httpx.get(f"{run.url}/").text
                if live["status"] == "changed" and "Changed." in page:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline, run.output
            time.sleep(0.2)
    finally:
        run.press_ctrl_c()


@pytest.mark.long
def test_a_busy_port_is_one_clear_line(project_copy: Path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            ["make", "run", f"PORT={port}", f"VENV={prepared.venv()}"],
            cwd=project_copy,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=COMES_WITHIN_SECONDS,
        )

    assert result.returncode != 0
    assert f"flashsale: port {port} cannot be used (Address already in use)" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.long
def test_a_directory_that_cannot_be_written_is_one_clear_line(project_copy: Path):
    blocked = project_copy / "var"
    blocked.write_text("a file is where the directory should be")
    run = Run(project_copy)

    assert run.popen.wait(timeout=COMES_WITHIN_SECONDS) != 0
    assert "flashsale: cannot write to" in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("python", "told"),
    [
        (
            '[ "$1" = --version ] && echo Python 3.9.2; exit 1',
            "Python 3.11 or later is needed; found: Python 3.9.2",
        ),
        (
            'case "$2" in *ensurepip*) exit 1; esac',
            "Python's venv is missing; on Debian: apt install python3-venv",
        ),
    ],
    ids=["old", "without venv"],
)
def test_a_python_that_cannot_run_it_is_one_line(project_copy: Path, tmp_path: Path, python: str, told: str):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh"):
        (tools / name).symlink_to(shutil.which(name) or name)
    (tools / "python3").write_text(f"#!/bin/sh\n{python}\n")
    (tools / "python3").chmod(0o755)

    assert first_lines(project_copy, PATH=str(tools)) == [f"flashsale: {told}"]


def test_a_clone_that_cannot_be_written_is_one_line(project_copy: Path):
    (told,) = first_lines(project_copy, "VENV=/proc/flashsale/.venv")

    assert told.startswith("flashsale: cannot make /proc/flashsale/.venv in ")
    assert f" {project_copy} (No such file or directory)" in told
    assert told.endswith("Make that folder writable, or clone into one of yours.")


def test_a_path_with_a_colon_is_one_line(project_copy: Path):
    clone = project_copy.rename(project_copy.with_name("shop:2"))

    (told,) = first_lines(clone)

    assert told == f"flashsale: Python cannot make .venv under a path with a colon. Rename {clone}."


def first_lines(clone: Path, *words: str, **environment: str) -> list[str]:
    """Return what a `make run` that cannot begin says, without make's own line at the end."""
    result = subprocess.run(
        ["make", "run", *words],
        cwd=clone,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=COMES_WITHIN_SECONDS,
    )

    assert result.returncode != 0
    *lines, last = result.stderr.splitlines()
    assert last.startswith("make: ***")
    return lines


@pytest.mark.parametrize("name", ["SECRET_KEY", "ALLOWED_HOSTS"])
def test_elsewhere_a_missing_setting_is_one_clear_line(tmp_path: Path, project_dir: Path, name: str):
    environment = {"PATH": os.environ["PATH"], "SECRET_KEY": "x", "ALLOWED_HOSTS": "x", "VAR_DIR": str(tmp_path)}
    del environment[name]

    for command in (["manage.py", "check"], ["-m", "gunicorn", "-c", "python:flashsale.gunicorn", "flashsale.asgi"]):
        result = subprocess.run(
            [sys.executable, *command],
            cwd=project_dir,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMES_WITHIN_SECONDS,
        )
        assert result.returncode != 0
        assert result.stderr.startswith(f"flashsale: {name} is not set.")
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("USER_RATE", "ten", "'ten' is not a rate"),
        ("ADDRESS_RATE", "10", "'10' is not a rate"),
        ("PORT", "http", "'http' is not a whole number above zero"),
        ("PORT", "99999", "99999 is not a port"),
        ("DEBUG", "maybe", "'maybe' is neither true nor false"),
        ("TRUSTED_PROXIES", "proxy", "'proxy' does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(tmp_path: Path, project_dir: Path, name: str, value: str, reason: str):
    environment = {"PATH": os.environ["PATH"], "SECRET_KEY": "x", "ALLOWED_HOSTS": "x", "VAR_DIR": str(tmp_path)}

    result = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=project_dir,
        env={**environment, name: value},
        capture_output=True,
        text=True,
        timeout=COMES_WITHIN_SECONDS,
    )

    assert result.returncode != 0
    assert result.stderr.startswith(f"flashsale: {name}: {reason}")
    assert len(result.stderr.splitlines()) == 1
