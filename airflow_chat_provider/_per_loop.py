"""State that belongs to one event loop, or to one process: what a fork must not take over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

_T = TypeVar("_T")


class Renewable(Protocol):
    def _renew(self) -> None:
        """Begin anew in a forked process, which has one thread, and whose connections are still its parent's."""


_known: WeakSet[Renewable] = WeakSet()


def renew_in_child(thing: Renewable) -> None:
    """Call ``thing._renew`` in every process that is forked from this one, before anything else happens there."""
    _known.add(thing)


def _renew_all() -> None:
    for thing in list(_known):
        thing._renew()  # noqa: SLF001 - private so that nobody else calls it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class PerLoop(Generic[_T]):
    """Call it for the running loop's own object, which is made when first asked for and goes with the loop."""

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
