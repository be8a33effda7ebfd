"""The tasks directly downstream of a branch: which of them can be picked, and which run once some are picked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import Operator


class Downstream:
    """The tasks directly downstream of ``branch``.

    Setups and teardowns cannot be picked: Airflow runs them for the tasks that they belong to.
    """

    def __init__(self, branch: BaseOperator) -> None:
        self._dag: Any = branch.get_dag() if branch.has_dag() else None  # type: ignore[no-untyped-call]
        downstream = branch.downstream_list if self._dag is not None else ()
        self.tasks: dict[str, Any] = {task.task_id: task for task in downstream}
        self._roots = dict(self._groups())
        self._plain = {name for name, task in self.tasks.items() if _is_plain(task)}

    def _groups(self) -> Iterable[tuple[str, set[str]]]:
        """The groups whose first tasks are all directly downstream, each with the ids of its first tasks."""
        groups = self._dag.task_group.get_task_group_dict() if self._dag is not None else {}
        for name, group in groups.items():
            roots = {root.task_id for root in group.get_roots()}
            if name and roots <= self.tasks.keys() and any(map(_is_plain, group)):
                yield name, roots

    @property
    def possible(self) -> set[str]:
        """The ids of the tasks and groups that can be picked."""
        return self._plain | self._roots.keys()

    @property
    def offered(self) -> list[str]:
        """The ids to pick from if ``branches`` is None: each task, and each group that begins with a setup."""
        setups = [task for task in self.tasks.values() if task.is_setup and task.task_group is not None]
        groups = {setup.task_group.group_id for setup in setups}
        return sorted(self._plain | (groups & self._roots.keys()))

    def why_not(self, name: str) -> str | None:
        """Why an id cannot be picked; None if it can."""
        if name in self.possible:
            return None
        task = self.tasks.get(name)
        if task is None:
            return f"{name!r} is not downstream"
        if task.is_teardown:
            return f"{name!r} is a teardown, which cannot be picked: it runs whatever is picked"
        return f"{name!r} is a setup, which cannot be picked: name a task that needs it, or a group that begins with it"

    def followed(self, picked: Iterable[str]) -> set[str]:
        """The ids of the tasks directly downstream that are not skipped.

        As in Airflow, a task downstream of a picked one is not skipped either. Unlike there, teardowns always run, and
        so do setups, except those that only serve tasks that are skipped.
        """
        followed = self._with_all_after(picked)
        governed = self._with_all_after(self._plain)
        begin_groups = set().union(*self._roots.values())
        for name, task in self.tasks.items():
            if task.is_teardown:
                followed.add(name)
            elif task.is_setup:
                needed_by = _needed_by(task)
                if needed_by & followed or not (name in begin_groups or needed_by & governed):
                    followed.add(name)
        return self.tasks.keys() & followed

    def _with_all_after(self, names: Iterable[str]) -> set[str]:
        found = set(names)
        return found.union(*(self._dag.get_task(name).get_flat_relative_ids(upstream=False) for name in found))


def _needed_by(setup: Operator) -> set[str]:
    """The ids of the tasks that Airflow skips if this setup is skipped."""
    found = set()
    for task in setup.downstream_list:
        if task.is_setup:
            found |= _needed_by(task)
        elif not task.is_teardown:
            found.add(task.task_id)
    return found


def _is_plain(task: Operator) -> bool:
    return not (task.is_setup or task.is_teardown)
