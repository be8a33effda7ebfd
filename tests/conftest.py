"""Airflow reads its environment when it is first imported, so the environment is set here, at import."""

import atexit
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_chat_provider.testing import ChatServer

AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-chat-tests-"))
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)

# Set where pytest-xdist has several processes run the tests: each imports this file, and so has a home of its own.
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
# The workers compare what they collected, and the name of a test may be made of a set.
os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(2**32)))

# `make test-postgres` names a server, with an empty database in it.
SERVER = os.environ.get("AIRFLOW_CHAT_TEST_DATABASE")
DATABASE = f"sqlite:///{AIRFLOW_HOME}/airflow.db"
if SERVER:
    DATABASE = SERVER.replace("@/postgres?", f"@/{WORKER}?") if WORKER else SERVER
# `make test-e2e` names a Redis too: only a whole Airflow with workers has a use for it.
BROKER = os.environ.get("AIRFLOW_CHAT_TEST_BROKER")

# The developer's own Airflow, connections and proxies must not decide what a test sees.
for _name in list(os.environ):
    ours = _name.startswith("AIRFLOW_CHAT_TEST_")  # the workers inherit it
    if (_name.startswith("AIRFLOW") and not ours) or _name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
        del os.environ[_name]

DAGS_FOLDER = AIRFLOW_HOME / "dags"
DAGS_FOLDER.mkdir()
os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": DATABASE,
}
if BROKER:
    os.environ["AIRFLOW__CELERY__BROKER_URL"] = BROKER


TESTS = Path(__file__).parent
CORE = TESTS / "unit"
# The fixture `airflow` runs a test twice: the task waits in its worker, then it defers. The second run is slow. Only
# here, where deferral itself is tested, it is one of the quick tests.
DEFERRED_TOO = (TESTS / "airflow" / "durable", TESTS / "airflow" / "task" / "test_operators.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "airflow_db" in getattr(item, "fixturenames", ()):
            item.add_marker("database")
        if item.get_closest_marker("model") or item.get_closest_marker("scheduler") or _repeats(item):
            item.add_marker("slow")
        if item.path.is_relative_to(CORE):
            item.add_marker("core")
        # The tests beside them run the same lines, and hundreds of examples take minutes if coverage is measured.
        if hasattr(getattr(item, "function", None), "hypothesis") or item.get_closest_marker("slow"):
            item.add_marker("no_cover")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long value by its argument: gzip packs the time, and pytest 8 writes the whole value into the name."""
    return argname if isinstance(val, str | bytes) and len(val) > 60 else None


def _repeats(item: pytest.Item) -> bool:
    """Is this the second run of a test, in which its task defers?"""
    made_of = getattr(getattr(item, "callspec", None), "params", {})
    return bool(made_of.get("airflow")) and not any(item.path.is_relative_to(path) for path in DEFERRED_TOO)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder behind the object store ``memory://``; Airflow takes no other one for it in this process."""
    from tests.support.batching import attach_store

    folder = tmp_path_factory.mktemp("store")
    attach_store(folder)
    return folder


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    return AIRFLOW_HOME


@pytest.fixture(scope="session")
def dags_folder() -> Path:
    """The only DAG bundle. `dag.test()` wants the DAG's file in it."""
    return DAGS_FOLDER


@pytest.fixture(scope="session")
def airflow_db(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty metadata database. It takes seconds, so only the tests that need it ask for it."""
    from tests.support import quick_airflow
    from tests.support.databases import make_database

    folder = tmp_path_factory.getbasetemp()
    # Of all workers: their own folders lie in one.
    make_database(folder.parent if WORKER else folder, DATABASE, SERVER)
    quick_airflow.make_quick()


@pytest.fixture(scope="session")
def run_dag(airflow_db: None) -> Callable[..., Any]:
    """`dag.test()` for a DAG that a test made: `run_dag(dag).state`. Its arguments are those of `test`."""
    from tests.support.quick_airflow import without_pauses

    def run(dag: Any, **arguments: Any) -> Any:
        write_dag(dag)
        with without_pauses():
            return dag.test(**arguments)

    return run


@functools.cache
def _write_bundles() -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()


def write_dag(dag: Any) -> None:
    """Only a DAG that is in the metadata database can run."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag, sync_bag_to_db  # type: ignore[no-redef]

    _write_bundles()
    bag = DagBag(DAGS_FOLDER, collect_dags=False)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)


@pytest.fixture(scope="session")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a user gets it, built once a session. Not isolated: the build needs no network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(params=[False, True], ids=["sync", "deferred"])
def airflow(run_dag: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """The real Airflow, for DAGs that a test makes: once their tasks do all by themselves, once they defer."""
    from tests.support.running import Airflow

    return Airflow(run_dag, deferrable=request.param)


@pytest.fixture
def nothing_learnt() -> None:
    """Forget what this process has learnt of servers: another test's server may have had the same port."""
    from airflow_chat_provider.transport import server_memory

    server_memory._RUNGS.clear()
    server_memory._WITHOUT_STREAM_OPTIONS.clear()


@pytest.fixture
def server(chat_server: ChatServer, nothing_learnt: None, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    """The plugin's server, without a connection to it: the test makes its own."""
    monkeypatch.delenv("AIRFLOW_CONN_CHAT_DEFAULT")
    return chat_server


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`connect(host, password=..., extra=..., conn_id=...)`: an Airflow connection, by environment."""

    def make(host: str, conn_id: str = "chat_default", **parts: Any) -> str:
        value = {"conn_type": "chat", "host": host, "password": "sk-test-1234567890", **parts}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        return conn_id

    return make


@pytest.fixture
def chat(server: ChatServer, connect: Callable[..., str]) -> ChatServer:
    """The server, with the connection `chat_default` to it."""
    connect(**server.connection)
    return server


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Any:
    """What was logged at INFO and above: see ``Log``."""
    from tests.support.calling import Log

    return Log(capsys, caplog)


@pytest.fixture
def statsd() -> Iterator[Any]:
    """A statsd server, to which this process sends Airflow's metrics: see ``Statsd``."""
    from tests.support import telemetry

    server = telemetry.Statsd()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(telemetry.STATSD_CLIENT)
        for name, value in server.settings.items():
            patch.setenv(name, value)
        telemetry.restart_stats()
        telemetry.forget()
        yield server
    server.close()
    telemetry.restart_stats()
    telemetry.forget()


@pytest.fixture
def traces() -> Iterator[Any]:
    """Airflow's traces are on, and stay in this process: see ``Traces``."""
    from opentelemetry import trace

    from tests.support import telemetry

    found = telemetry.Traces()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__TRACES__OTEL_ON", "True")
        patch.setattr(trace, "_TRACER_PROVIDER", found.provider)
        telemetry.forget()
        yield found
    telemetry.forget()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of a CA that nobody knows: see ``Certificates``."""
    from tests.support.certs import make_certificates

    return make_certificates(tmp_path_factory.mktemp("certificates"))
