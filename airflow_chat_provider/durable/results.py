"""The XComs of a task that its trigger ends: set by the trigger, found again by whoever comes back to the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_chat_provider.airflow_api.xcom import Slot
    from airflow_chat_provider.core.answer.result import Outcome
    from airflow_chat_provider.durable.journal import Journal

_LARGE = 1 << 16  # characters of replies
_LAST = "configuration"
"""The key that is set last: where it is found, all the others are there too."""


async def aleave(journal: Journal, left: Outcome) -> None:
    """Set the XComs, the return value among them, then remove the journal, which has nothing more to tell."""
    xcoms = left.xcoms if left.value is None else {**left.xcoms, "return_value": left.value}
    for key in sorted(xcoms, key=lambda key: key == _LAST):
        await journal.slot._replace(key=key).aput(xcoms[key], large=len(journal.entry.replies) > _LARGE)
    await journal.adrop()


async def ais_left(journal: Journal) -> bool:
    """Has a trigger set all XComs of this try? Airflow removes the XComs of earlier tries."""
    return await _last(journal).aget() is not None


def is_left(journal: Journal) -> bool:
    """``ais_left`` for a worker."""
    return _last(journal).get() is not None


def left_value(journal: Journal) -> Any:
    """The return value that a trigger set; None where it set none."""
    return journal.slot._replace(key="return_value").get()


def _last(journal: Journal) -> Slot:
    return journal.slot._replace(key=_LAST)
