"""How soon programs start, stop and take over from each other."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests import prepared
from tests.faults import programs
from tests.faults.load import Load
from tests.load.promises.promise import promised
from tests.load.promises.shops import Shop, new_shopper, plain, seconds_until
from tests.servers import free_port

OPERATIONS = "docs/operations.md"
LEFT_OUT = (".git", ".venv", ".env", "var", "__pycache__", ".*_cache", ".hypothesis")


@promised("An attempt is answered while the web server reloads", OPERATIONS, within=1.5, on=plain, rounds=3)
def reload(shop: Shop) -> float:
    load, old = Load(shop.port, "widget", shop.rng, threads=3), set(shop.web_workers())
    load.start()
    shop.web.send_signal(signal.SIGHUP)
    seconds_until(lambda: not old & set(shop.web_workers()))
    load.stop()
    assert all(answer.status for answer in load.answers), "an attempt is not answered"
    return max(answer.seconds for answer in load.answers)


@promised("A web worker that is replaced ends", OPERATIONS, within=8.0, on=plain, rounds=3)
def old_workers_end(shop: Shop) -> float:
    serving = set(old := shop.web_workers())

    def both_new_ones_serve() -> bool:
        serving.add(httpx.get(f"{shop.url}/health/live", timeout=30).json()["pid"])
        return len(serving) == 4

    with shop.each_worker():  # connections that are kept end, too
        shop.web.send_signal(signal.SIGHUP)
        seconds_until(both_new_ones_serve)
        return seconds_until(lambda: not set(old) & set(shop.web_workers()))


@promised("Another order writer takes over from a dead one", "docs/reliability.md", within=7.0, on=plain, rounds=3)
def dead_writer(shop: Shop) -> float:
    (other,), name = shop.writers, new_shopper()
    other.send_signal(signal.SIGSTOP)
    try:
        time.sleep(1)  # what it asked Redis for has ended: it is given nothing that it cannot take
        dying = shop.start_dying_writer("insert", 1)
        shop.sell(user_id=name)
        dying.wait(timeout=30)
        died = time.monotonic()
    finally:
        other.send_signal(signal.SIGCONT)
    return seconds_until(lambda: shop.database.query("SELECT 1 FROM sales_order WHERE user_id = %s", name), since=died)


class Clone:
    """The project as a clone has it, in which nobody has run anything."""

    def __init__(self, directory: Path):
        self.directory = directory / "clone"
        shutil.copytree(programs.PROJECT_DIR, self.directory, ignore=shutil.ignore_patterns(*LEFT_OUT))
        os.utime(self.directory / "requirements.txt", (0, 0))  # so that make installs nothing anew

    def forget(self) -> None:
        """Make the next start a first one."""
        shutil.rmtree(self.directory / "var", ignore_errors=True)

    def start(self) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._log = self.directory / "run.log"
        self._log.unlink(missing_ok=True)
        command = ["make", "run", f"PORT={free_port()}", f"VENV={prepared.venv()}"]
        self._process = programs.start(command, self._log, inherited, self.directory)

    def says_that_it_serves(self) -> bool:
        said = self._log.read_text()
        assert self._process.poll() is None, f"it has ended: {said.splitlines()[-1:]}"
        return "Ctrl-C" in said

    def press_ctrl_c(self) -> None:
        """Send what a terminal sends, and return when `make` is gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(timeout=60)


@contextmanager
def clone() -> Iterator[Clone]:
    with tempfile.TemporaryDirectory(prefix="flashsale-clone-", dir="/tmp") as directory:
        yield Clone(Path(directory))


@promised("`make run` serves, also at its first start", "flashsale/local.py", within=30.0, on=clone, rounds=3)
def run(clone: Clone) -> float:
    clone.forget()
    clone.start()
    try:
        return seconds_until(clone.says_that_it_serves)
    finally:
        clone.press_ctrl_c()


@promised("Ctrl-C ends `make run`", "flashsale/local.py", within=10.0, on=clone, rounds=3)
def ctrl_c(clone: Clone) -> float:
    clone.start()
    seconds_until(clone.says_that_it_serves)
    began = time.monotonic()
    clone.press_ctrl_c()
    return time.monotonic() - began
