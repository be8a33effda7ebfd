"""One XCom of a task instance, from its worker and from a trigger on an event loop."""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_chat_provider.airflow_api.compat import in_thread, loop_reaches_airflow


class Slot(NamedTuple):
    """Where an XCom lies. A trigger's arguments name the task instance: in ``dag.test()`` a trigger knows none."""

    key: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def from_ti(cls, ti: Any, key: str) -> Slot:
        return cls(key, ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)

    @property
    def identity(self) -> dict[str, Any]:
        """The task instance that it belongs to."""
        return {name: value for name, value in self._asdict().items() if name != "key"}

    def get(self) -> Any:
        """Its value; None if there is none."""
        return _xcom().get_one(**self._asdict())

    def put(self, value: Any) -> None:
        """Set it. If a backend keeps an older value elsewhere, Airflow leaves that behind, so it is purged here."""
        older = None if is_plain() else self._reference()
        _xcom().set(value=value, **self._asdict())
        # From Airflow 3.4 on, a backend may have written the value over the older one.
        if older is not None and older.value is not None and older.value != self._reference().value:
            _xcom().purge(older)

    def _reference(self) -> Any:
        """What is in Airflow's database; with a backend, that may only say where the value is."""
        return _xcom()._get_xcom_db_ref(**self._asdict())  # noqa: SLF001 - as XCom.delete does

    def drop(self) -> None:
        """Remove it if it is there."""
        if is_plain():
            _comms().send(self._deletion())  # XCom.delete asks for the value first, for a backend to purge
        else:
            _xcom().delete(**self._asdict())

    async def aget(self) -> Any:
        if _is_async():
            return await _xcom().aget_one(**self._asdict())
        return await in_thread(self.get)

    async def aput(self, value: Any, *, large: bool = False) -> None:
        """``large``: serializing the value would hold up the loop, so it is set in a thread."""
        if _is_async() and not large:
            await _xcom().aset(value=value, **self._asdict())
        else:
            await in_thread(self.put, value)

    async def adrop(self) -> None:
        if _is_async():
            await _comms().asend(self._deletion())
        else:
            await in_thread(self.drop)

    def _deletion(self) -> Any:
        from airflow.sdk.execution_time.comms import DeleteXCom

        return DeleteXCom(**self._asdict())


def is_plain() -> bool:
    """Does XCom lie in Airflow's database, and not in a backend of the user's?"""
    from airflow.sdk.bases.xcom import BaseXCom

    return _xcom() is BaseXCom


def _xcom() -> Any:
    from airflow.sdk.execution_time.xcom import XCom

    return XCom


def _comms() -> Any:
    from airflow.sdk.execution_time import task_runner

    return task_runner.SUPERVISOR_COMMS


def _is_async() -> bool:
    """Can XCom be reached on the loop? Not before Airflow 3.3, and not if a backend does I/O of its own."""
    return is_plain() and hasattr(_xcom(), "aset") and loop_reaches_airflow()
