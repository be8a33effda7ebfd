"""A DAG run by the real Airflow on its real database, and what it left there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_chat_provider.operators import ChatCompletionOperator

# Not an object's id: Airflow's API would take a later DAG of that name for the one that it remembers.
_NUMBERS = itertools.count(1)


def load_dag(file: Path, dag_id: str) -> Any:
    """A DAG from its file."""
    return load_dags(file)[dag_id]


def load_dags(file: Path) -> dict[str, Any]:
    """The DAGs of a file by their names, as the DAG processor reads it."""
    bag = _read(file)
    assert not bag.import_errors
    return dict(bag.dags)


def import_errors(file: Path) -> dict[str, str]:
    """What Airflow shows of a file that it cannot import."""
    return dict(_read(file).import_errors)


def _read(file: Path) -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    return DagBag(str(file))


_LINK = "_link_"


class Run:
    """A finished DAG run."""

    def __init__(self, dag_run: Any) -> None:
        self.state = str(getattr(dag_run.state, "value", dag_run.state))
        self._where = {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id}

    def xcoms(self, task_id: str = "ask", map_index: int = -1) -> dict[str, Any]:
        """Every XCom of a task by its key, without the links that Airflow's workers push for its UI."""
        return {key: value for key, value in self._stored(task_id, map_index).items() if not key.startswith(_LINK)}

    def links(self, task_id: str) -> dict[str, str]:
        """Those links, by the keys of their XComs."""
        return {key: value for key, value in self._stored(task_id, -1).items() if key.startswith(_LINK)}

    def _stored(self, task_id: str, map_index: int) -> dict[str, Any]:
        from airflow.models.xcom import XComModel
        from airflow.sdk.execution_time.xcom import XCom
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            rows = session.scalars(
                select(XComModel).filter_by(task_id=task_id, map_index=map_index, **self._where)
            ).all()
            return {row.key: XCom.deserialize_value(row) for row in rows}

    def states(self) -> dict[str, str]:
        """The state of each task; of the last instance where it is mapped."""
        return {instance.task_id: str(instance.state) for instance in self._instances()}

    def tries(self, task_id: str = "ask") -> int:
        """How often a task ran."""
        return next(int(instance.try_number) for instance in self._instances() if instance.task_id == task_id)

    def _instances(self) -> list[Any]:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return list(session.scalars(select(TaskInstance).filter_by(**self._where)).all())

    def rendered(self, task_id: str = "ask", map_index: int = -1) -> dict[str, Any]:
        """The rendered fields that the UI shows."""
        from airflow.models.renderedtifields import RenderedTaskInstanceFields

        (instance,) = (one for one in self._instances() if (one.task_id, one.map_index) == (task_id, map_index))
        return dict(RenderedTaskInstanceFields.get_templated_fields(instance) or {})


class Airflow:
    """``with airflow.dag(...): ...`` and then ``airflow.run()``."""

    def __init__(self, run_dag: Callable[..., Any], *, deferrable: bool = False) -> None:
        self._run_dag = run_dag
        self.deferrable = deferrable
        self._dag: DAG | None = None
        self._errors: dict[str, BaseException] = {}

    @contextmanager
    def dag(self, **arguments: Any) -> Iterator[DAG]:
        """A DAG of this test's own."""
        arguments["default_args"] = {"deferrable": self.deferrable, **arguments.get("default_args", {})}
        with DAG(f"test_{next(_NUMBERS)}", schedule=None, **arguments) as dag:
            yield dag
        self._dag = dag

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        """Not by Airflow's callbacks: before 3.2 they are not told of every error."""

        def noting(method: Callable[..., Any]) -> Callable[..., Any]:
            def noted(task: Any, *arguments: Any, **more: Any) -> Any:
                try:
                    return method(task, *arguments, **more)
                except BaseException as error:
                    if type(error).__name__ != "TaskDeferred":
                        # Before Airflow 3.3 a final error is the cause of Airflow's own.
                        self._errors[task.task_id] = error.__cause__ or error
                    raise

            return noted

        with pytest.MonkeyPatch.context() as patch:
            for name in ("_execute", "execute_complete"):
                patch.setattr(ChatCompletionOperator, name, noting(getattr(ChatCompletionOperator, name)))
            yield

    def error(self, task_id: str = "ask") -> Any:
        """What a task failed with at last; None where it did not."""
        return self._errors.get(task_id)

    def run(self, **arguments: Any) -> Run:
        """Run the DAG that was made last."""
        with self._noting_errors():
            return Run(self._run_dag(self._dag, **arguments))


@contextmanager
def noting_events(events: dict[str, Any]) -> Iterator[None]:
    """What each trigger fires. In ``dag.test()`` a worker goes on all the same; a triggerer would end the task."""
    from airflow.sdk.definitions import dag

    run = dag._run_inline_trigger

    def noted(trigger: Any, *arguments: Any) -> Any:
        event = run(trigger, *arguments)
        events[trigger.journal.slot.task_id] = event
        return event

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dag, "_run_inline_trigger", noted)
        yield
