"""What belongs to an event loop, and goes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from airflow_chat_provider._forks import renew_in_child

_T = TypeVar("_T")


class PerLoop(Generic[_T]):
    """Call it for the running loop's own, made when first asked for."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, _T] = WeakKeyDictionary()
        renew_in_child(self)

    def _renew(self) -> None:
        self._made.clear()

    def __call__(self) -> _T:
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            self._made[loop] = self._make()
        return self._made[loop]
