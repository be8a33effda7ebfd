"""The connections that all asynchronous calls of one loop to one endpoint share.

For each request, a pool of httpcore's looks at all of its connections: 500 requests at once make it look 250,000
times. Here each call takes a transport of its own, which has one connection at most, and leaves it to the next call.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_chat_provider._per_loop import PerLoop, renew_in_child
from airflow_chat_provider.transport.pools import KEEPALIVE, AsyncTransport

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings


class Rack:
    """Transports to take and to give back. Whoever ``join``s has to ``leave``; the last one closes all."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: deque[tuple[float, AsyncTransport]] = deque()
        self.members = 0
        renew_in_child(self)

    def _renew(self) -> None:
        self._idle.clear()  # without closing any: that would talk to the event loop, which is the parent's

    @classmethod
    def join(cls, settings: Settings) -> Rack:
        """The running loop's rack for these settings."""
        racks = _racks()
        key = (settings.base_url, settings.proxy, settings.verify, settings.client_cert, settings.client_key)
        rack = racks.get(key)
        if rack is None or not rack.members:
            rack = racks[key] = cls(settings)
        rack.members += 1
        return rack

    async def leave(self) -> None:
        self.members -= 1
        self._close_idle_since(math.inf if not self.members else -math.inf)

    def take(self) -> AsyncTransport:
        """A transport that no other call uses: the one used last, whose connection is the likeliest to be alive."""
        return self._idle.pop()[1] if self._idle else AsyncTransport(self._settings)

    async def give(self, transport: AsyncTransport) -> None:
        """Leave a transport to the next call, whatever became of this one."""
        if not transport.is_idle:
            transport.abort()
            return
        now = time.monotonic()
        self._idle.append((now, transport))
        self._close_idle_since(now - KEEPALIVE if self.members else math.inf)

    def _close_idle_since(self, moment: float) -> None:
        while self._idle and self._idle[0][0] < moment:
            self._idle.popleft()[1].abort()


_racks: PerLoop[dict[Any, Rack]] = PerLoop(dict)
