"""OpenLineage writes its events into a file, if its provider is installed. Airflow reads this when it loads plugins."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests.conftest import AIRFLOW_HOME

EVENTS = AIRFLOW_HOME / "openlineage.jsonl"

if find_spec("openlineage") is not None:
    transport = {"type": "file", "log_file_path": str(EVENTS), "append": True}
    os.environ["AIRFLOW__OPENLINEAGE__TRANSPORT"] = json.dumps(transport)


@pytest.fixture(scope="session", autouse=True)
def _end_of_openlineage() -> Iterator[None]:
    """End the process that OpenLineage's listener has started: pytest's own may be killed before it has done so."""
    yield
    listener = sys.modules.get("airflow.providers.openlineage.plugins.listener")
    if listener is not None:
        listener.get_openlineage_listener().before_stopping(None)  # as Airflow's components do


@pytest.fixture
def events() -> Callable[..., list[dict[str, Any]]]:
    """What OpenLineage's provider has emitted of a task in this test, oldest first."""
    pytest.importorskip("openlineage", reason="needs OpenLineage's provider: `make test-lineage`")
    EVENTS.unlink(missing_ok=True)

    def read(task_id: str = "ask") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in EVENTS.read_text("utf-8").splitlines()]
        return [event for event in found if event["job"]["name"].endswith(f".{task_id}")]

    return read


class Collected:
    """The files that were told to Airflow's hook lineage."""

    def __init__(self, collector: Any) -> None:
        self._collector = collector

    @property
    def inputs(self) -> list[str]:
        return sorted(found.asset.uri for found in self._collector.collected_assets.inputs)

    @property
    def outputs(self) -> list[str]:
        return sorted(found.asset.uri for found in self._collector.collected_assets.outputs)


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Collected:
    """As if a plugin read hook lineage: Airflow's own collector, in the place where Airflow's own code finds it."""
    module: Any
    try:
        import airflow.sdk.lineage as module
    except ImportError:  # before Airflow 3.2
        import airflow.lineage.hook as module  # type: ignore[import-not-found, no-redef]
    collector = module.HookLineageCollector()
    monkeypatch.setattr(module, "get_hook_lineage_collector", lambda: collector)
    return Collected(collector)
