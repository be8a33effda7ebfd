"""Waiting for batches of a vendor's: in a trigger, or in a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_chat_provider.core.connection.settings import is_loopback
from airflow_chat_provider.core.errors import ChatCompletionError, StatusError
from airflow_chat_provider.transport.batch_api import BatchApi

if TYPE_CHECKING:
    from airflow_chat_provider.airflow_api.connections import Log
    from airflow_chat_provider.core.connection.settings import Settings

FIRST_WAIT, LONGEST_WAIT, GROWTH = 30.0, 600.0, 1.5  # seconds between two looks at a batch
_ON_THIS_MACHINE = 0.2  # seconds: it costs nothing to ask a server there more often, and tests need not wait


def first_wait(settings: Settings) -> float:
    """Seconds until batches are looked at for the first time; then the waits grow."""
    host = urlsplit(settings.base_url).hostname or ""
    return _ON_THIS_MACHINE if is_loopback(host) else FIRST_WAIT


def pause(settings: Settings) -> float:
    """Seconds until an order is tried again for which the vendor had no room."""
    return first_wait(settings) * LONGEST_WAIT / FIRST_WAIT


async def watch(
    settings: Settings, batches: Sequence[str], log: Log, *, any_one: bool = False, at_most: float | None = None
) -> None:
    """Return when all batches have ended, or (``any_one``) the first of them; or after ``at_most`` seconds.

    A network that fails and a server that is down are waited out. Returns, too, when the server refuses to tell:
    whoever asks next gets its reason.
    """
    api = BatchApi(settings)
    try:
        await _Watch(api, settings, log).until(set(batches), any_one=any_one, at_most=at_most)
    finally:
        await api.aclose()


class _Watch:
    def __init__(self, api: BatchApi, settings: Settings, log: Log) -> None:
        self._api, self._log = api, log
        self._wait = first_wait(settings)
        self._said: dict[str, str] = {}
        self._failed = ""

    async def until(self, left: set[str], *, any_one: bool, at_most: float | None) -> None:
        end = None if at_most is None else time.monotonic() + at_most
        while end is None or time.monotonic() < end:
            wait = self._wait if end is None else min(self._wait, max(0.0, end - time.monotonic()))
            await asyncio.sleep(wait)
            self._wait = min(LONGEST_WAIT, self._wait * GROWTH)
            before = len(left)
            for batch in sorted(left):
                if await self._has_ended(batch):
                    left.discard(batch)
            if before and (not left or (any_one and len(left) < before)):
                return

    async def _has_ended(self, batch_id: str) -> bool:
        try:
            batch = await self._api.get(batch_id)
        except ChatCompletionError as error:
            if isinstance(error, StatusError) and error.final:
                self._log.warning("The server does not tell about batch %s: %s", batch_id, error.message)
                return True
            if error.message != self._failed:
                self._failed = error.message
                self._log.warning("Asking again later for batch %s: %s", batch_id, error.message)
            return False
        if self._said.get(batch_id) != batch.status:
            self._said[batch_id] = batch.status
            self._log.info("%s", str(batch).capitalize())
        return batch.ended
