"""What makes ``dag.test()`` cheaper, and changes nothing that a task sees.

Hundreds of tests run a DAG. Of the time of each run, a third went into work that a process has to do once only, or into
waiting for a disk.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

DAG_TEST = "airflow.sdk.definitions.dag"


def make_quick() -> None:
    """Once in a process, before it runs its first DAG."""
    _never_wait_for_the_disk()
    _keep_the_api()
    _keep_what_pydantic_compiled()
    _keep_the_dependencies()
    _leave_the_api_untraced()


def _never_wait_for_the_disk() -> None:
    """SQLite waits after each commit until the disk has it, which no test survives anyway."""
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "connect")
    def relax(connection: Any, _record: Any) -> None:
        if "sqlite" in type(connection).__module__:
            cursor = connection.cursor()
            cursor.execute("PRAGMA synchronous=OFF")
            cursor.close()


def _keep_the_api() -> None:
    """As Airflow 3.3 does by itself: before, ``dag.test()`` builds its API, in a second, for each task and trigger."""
    from airflow.sdk.execution_time import supervisor

    if not hasattr(supervisor.in_process_api_server, "cache_info"):
        supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)


def _keep_what_pydantic_compiled() -> None:
    """Airflow compiles the type of JSON anew for each template field of each task."""
    from airflow.sdk.execution_time import task_runner

    task_runner.TypeAdapter = functools.cache(task_runner.TypeAdapter)  # type: ignore[attr-defined, assignment]


def _keep_the_dependencies() -> None:
    """FastAPI reads the signature of each dependency anew in each request, because Airflow overrides some of them here.

    Only these calls name a dependency and leave ``use_cache`` out; those that build the routes are left alone.
    """
    from fastapi.dependencies import utils

    read, known = utils.get_dependant, dict[Any, Any]()

    def kept(**arguments: Any) -> Any:
        if "name" not in arguments or "use_cache" in arguments:
            return read(**arguments)
        key = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in arguments.items())
        if key not in known:
            known[key] = read(**arguments)
        return known[key]

    utils.get_dependant = kept


def _leave_the_api_untraced() -> None:
    """Nothing of this package runs in Airflow's API, and measuring coverage makes it several times as slow.

    Each thread is traced or not, so those of the API are not. It is built here, with nothing traced at all.
    """
    from airflow.sdk.execution_time import supervisor
    from anyio._backends._asyncio import WorkerThread

    run = WorkerThread.run

    def untraced(thread: Any) -> None:
        sys.settrace(None)
        run(thread)

    WorkerThread.run = untraced  # type: ignore[method-assign, assignment]
    with _without_coverage():
        supervisor.in_process_api_server().transport  # noqa: B018 - its thread starts when it is read


@contextmanager
def _without_coverage() -> Iterator[None]:
    try:
        from coverage import Coverage
    except ImportError:  # it is in the newest Airflow's environment
        yield
        return
    measuring = Coverage.current()
    threads = threading.gettrace()
    if measuring:
        measuring.stop()
    threading.settrace(None)
    try:
        yield
    finally:
        threading.settrace(threads)
        if measuring:
            measuring.start()


@contextmanager
def without_pauses() -> Iterator[None]:
    """``dag.test()`` looks once a second whether anything is to do. Here it looks a hundred times."""
    sleep = time.sleep

    def shorter(seconds: float) -> None:
        of_dag_test = sys._getframe(1).f_globals.get("__name__") == DAG_TEST
        sleep(0.01 if of_dag_test else seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", shorter)
        yield
