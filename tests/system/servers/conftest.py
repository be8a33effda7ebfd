"""Run by `make test-servers` alone, which names the servers' environments."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.servers.catalogue import SERVERS
from tests.system.servers.programs import Missing
from tests.system.servers.served import Place, Served
from tests.system.servers.table import Cell, Table

ROOT = Path(__file__).resolve().parents[3]
CHOSEN = os.environ.get("AIRFLOW_CHAT_TEST_SERVERS", "")
"""`all`, or names of the catalogue."""
LIMIT_SECONDS = 400
NAMES = list(SERVERS) if CHOSEN in {"", "all"} else CHOSEN.replace(",", " ").split()
LOGS = ROOT / ".servers" / "logs"
TABLE = pytest.StashKey[Table]()
CELL = pytest.StashKey[Cell]()

if not CHOSEN:
    collect_ignore_glob = ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    if unknown := set(NAMES) - set(SERVERS):
        raise pytest.UsageError(f"There is no server {', '.join(sorted(unknown))}. There are {', '.join(SERVERS)}.")
    config.stash[TABLE] = Table()
    if CHOSEN:  # `timeout` ends this process so, and the servers are to end with it
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session", params=NAMES)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Served]]:
    """One server after the other: the tests of each are run together."""
    name, table = request.param, request.config.stash[TABLE]
    if name in table.missing:
        pytest.skip(table.missing[name])
    logs = LOGS / name
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    light, engines = ROOT / ".venv-servers", ROOT / ".venv-engines"
    place = Place(light, engines, ROOT / ".servers" / "node", ROOT / ".servers" / "model", logs)
    started = SERVERS[name].start(place)
    try:
        served = started.__enter__()
    except Missing as missing:
        table.missing[name] = str(missing)
        pytest.skip(str(missing))
    table.versions[name] = served.version
    try:
        yield name, served
    finally:
        started.__exit__(None, None, None)


@pytest.fixture
def at(server: Any, request: pytest.FixtureRequest, run_dag: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The server, as a test of a feature wants it. No feature takes longer than its limit."""
    from tests.system.servers.asking import At

    name, served = server
    feature = request.node.function.__doc__.splitlines()[0]
    if way := request.node.callspec.id.removeprefix(name).strip("-"):
        feature += f", {way}"
    log = LOGS / name / f"{request.node.name.split('[')[0].removeprefix('test_')}.http"
    extra = {"model": served.model, "headers": dict(served.headers), "timeout": 120, "deadline": 200}
    value = {"conn_type": "chat", "host": served.url, "password": served.key, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CHAT_DEFAULT", json.dumps(value))
    cell = request.node.stash[CELL] = Cell("red")
    request.config.stash[TABLE].put(name, feature, cell)

    def give_up(*_: Any) -> None:
        raise TimeoutError(f"it took longer than {LIMIT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_SECONDS)
    try:
        yield At(served, cell, log, run_dag)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    cell = item.stash.get(CELL, None)
    if cell is not None and report.failed and call.excinfo:
        cell.state, cell.note = "red", " ".join(str(call.excinfo.value).split())[:200]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not CHOSEN:
        return
    text = config.stash[TABLE].markdown()
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOGS / "servers.md").write_text(text)
    terminalreporter.section("servers")
    terminalreporter.write(text[text.index("| Feature") :] if "| Feature" in text else text)
    terminalreporter.write_line(f"\nWhat each server logged, was sent and answered: {LOGS}")
    if page := os.environ.get("AIRFLOW_CHAT_TEST_SERVERS_PAGE"):
        Path(page).parent.mkdir(exist_ok=True)
        Path(page).write_text(text)
        terminalreporter.write_line(f"The table was written to {page}")
