"""The tasks directly after a branch: which of them can be picked, and which run once some are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Downstream:
    """Of a task. Setups and teardowns are no choice: Airflow runs them for the tasks that they belong to."""

    def __init__(self, task: Any) -> None:
        self.tasks: dict[str, Any] = {one.task_id: one for one in (task.downstream_list if task.has_dag() else [])}
        self._dag: Any = task.get_dag() if task.has_dag() else None
        self._roots = dict(self._groups())
        self._plain = {name for name, one in self.tasks.items() if _is_plain(one)}

    def _groups(self) -> Iterable[tuple[str, set[str]]]:
        """The groups whose first tasks are all directly downstream, and the ids of these."""
        groups = self._dag.task_group.get_task_group_dict() if self._dag is not None else {}
        for name, group in groups.items():
            roots = {root.task_id for root in group.get_roots()}
            if name and roots <= self.tasks.keys() and any(map(_is_plain, group)):
                yield name, roots

    @property
    def possible(self) -> set[str]:
        """The ids that can be picked, of tasks and of groups."""
        return self._plain | self._roots.keys()

    @property
    def offered(self) -> list[str]:
        """Those that are offered where nobody says which: each task; and a group that begins with a setup."""
        setups = (one.task_group.group_id for one in self.tasks.values() if one.is_setup and one.task_group is not None)
        return sorted(self._plain.union(name for name in setups if name in self._roots))

    def why_not(self, name: str) -> str | None:
        """Why an id cannot be picked; None where it can."""
        if name in self.possible:
            return None
        kind = _kind(self.tasks[name]) if name in self.tasks else None
        if kind == "teardown":
            return f"{name!r} is a teardown, which is no choice: it runs whatever is picked"
        if kind == "setup":
            return f"{name!r} is a setup, which is no choice: name a task that needs it, or a group that begins with it"
        return f"{name!r} is not downstream"

    def followed(self, picked: Iterable[str]) -> set[str]:
        """The ids of the tasks that are not skipped, where so many first tasks are picked.

        As in Airflow these are also the ones downstream of them. Unlike there, teardowns run; and so do setups, but
        for those that only serve what is skipped.
        """
        followed = self._with_all_after(picked)
        governed = self._with_all_after(self._plain)
        begin_groups = set().union(*self._roots.values())
        for name, one in self.tasks.items():
            if one.is_teardown:
                followed.add(name)
            elif one.is_setup:
                needed_by = _needed_by(one)
                if needed_by & followed or not (name in begin_groups or needed_by & governed):
                    followed.add(name)
        return self.tasks.keys() & followed

    def _with_all_after(self, names: Iterable[str]) -> set[str]:
        found = set(names)
        return found.union(*(self._dag.get_task(name).get_flat_relative_ids(upstream=False) for name in found))


def _needed_by(setup: Any) -> set[str]:
    """Airflow has these skipped where the setup is."""
    found = set()
    for one in setup.downstream_list:
        if one.is_setup:
            found |= _needed_by(one)
        elif not one.is_teardown:
            found.add(one.task_id)
    return found


def _kind(task: Any) -> str | None:
    return "teardown" if task.is_teardown else "setup" if task.is_setup else None


def _is_plain(task: Any) -> bool:
    return _kind(task) is None
