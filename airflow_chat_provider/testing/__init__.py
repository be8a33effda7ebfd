"""A real HTTP server with scripted replies, for tests of DAGs; the pytest fixture `chat_server` starts one.

- `ChatServer`: `script(...)` what it answers, look at `requests`, make any connection of `connection`
- `replies`: `ok`, `ok_json`, `tool_calls`, `stream`, `rate_limited`, `error`, `delay`, ...
- `faults`: replies that break on their way: `reset`, `half_body`, `cut_stream`, `hang`, ...
- `Received` is a request, `Reply` an answer, and `End` what becomes of the connection after it
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_chat_provider.testing import faults, replies
    from airflow_chat_provider.testing.loopback import Received
    from airflow_chat_provider.testing.replies import End, Reply
    from airflow_chat_provider.testing.server import ChatServer

__all__ = ["ChatServer", "End", "Received", "Reply", "faults", "replies"]

_PLACES = {
    "ChatServer": "server:ChatServer",
    "End": "replies:End",
    "Received": "loopback:Received",
    "Reply": "replies:Reply",
    "faults": "faults",
    "replies": "replies",
}


def __getattr__(name: str) -> Any:
    # Late: pytest imports the plugin, and so this package, in each project that it is installed for.
    if name in _PLACES:
        return pkgutil.resolve_name(f"{__name__}.{_PLACES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
