"""What a forked process must not take over: its parent's connections, and locks that none of its threads holds."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    def _renew(self) -> None:
        """Begin anew in a forked process: its one thread is here, and nothing may go to the parent's peers."""


_known: WeakSet[Renewable] = WeakSet()


def renew_in_child(thing: Renewable) -> None:
    """Have ``thing`` begin anew in every process that is forked from this one, before anything else happens there."""
    _known.add(thing)


def _renew_all() -> None:
    for thing in list(_known):
        thing._renew()  # noqa: SLF001 - for nobody else to call


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
