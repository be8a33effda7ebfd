"""Rows for the workers of a batch, read ahead in a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_chat_provider.batch.input import Row

_ROWS, _BYTES = 64, 1 << 20  # the size of a block that is read ahead


class Feed:
    """Rows for many workers: call ``take`` until it returns None.

    A thread reads ahead, so that a slow store does not hold up the calls under way. At most two blocks of rows
    wait in memory.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._ready: deque[Row] = deque()
        self._thread = ThreadPoolExecutor(1, "chat-batch-input")
        self._lock = asyncio.Lock()
        self._coming: asyncio.Future[list[Row]] | None = self._read()

    def _read(self) -> asyncio.Future[list[Row]]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._block)

    def _block(self) -> list[Row]:
        block, size = [], 0
        for row in self._rows:
            block.append(row)
            size += row.size
            if len(block) == _ROWS or size >= _BYTES:
                break
        return block

    async def take(self) -> Row | None:
        """The next row; None at the end. Raises what reading the input raises."""
        if not self._ready:
            async with self._lock:
                if not self._ready and self._coming is not None:
                    block = await asyncio.shield(self._coming)
                    self._ready.extend(block)
                    self._coming = self._read() if block else None
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        # It does not wait: a slow store must not hold up the end of the batch.
        if self._coming is not None:
            self._coming.cancel()
        if isinstance(self._rows, Generator):  # or an error's traceback would keep the input open
            # In the thread that reads it: Python 3.11 crashes if a generator is closed while another thread ends it.
            self._thread.submit(self._rows.close)
        self._thread.shutdown(wait=False)
