"""Real HTTP servers with scripted replies, for tests of DAGs. The pytest fixtures `chat_server` and `batch_server`
start one.

- `ChatServer`: `script(...)` sets its replies, `requests` has what it received, `connection` leads to it, and
  `wait_requests()` and `wait_closed()` wait for what the client does
- `replies`: `ok`, `ok_json`, `tool_calls`, `stream`, `rate_limited`, `error`, `delay`; and for any other reply `text`,
  `json_reply`, `status`, `chunked` and `sse`
- `faults`: replies that break on their way: `reset`, `half_body`, `cut_stream`, `hang`
- `BatchServer`: speaks OpenAI's batch API, too; `BatchEnd` scripts how a batch ends, `CallFault` a call that fails, and
  `batch_faults` has what goes wrong with batches
- `Received` is a request, `Reply` is a reply, and `End` says what happens to the connection after it
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_chat_provider.testing import batch_faults, faults, replies
    from airflow_chat_provider.testing.batch_server import BatchServer, CallFault
    from airflow_chat_provider.testing.batches import BatchEnd
    from airflow_chat_provider.testing.loopback import Received
    from airflow_chat_provider.testing.replies import End, Reply
    from airflow_chat_provider.testing.server import ChatServer

__all__ = [
    "BatchEnd",
    "BatchServer",
    "CallFault",
    "ChatServer",
    "End",
    "Received",
    "Reply",
    "batch_faults",
    "faults",
    "replies",
]

_PLACES = {
    "BatchEnd": "batches:BatchEnd",
    "BatchServer": "batch_server:BatchServer",
    "CallFault": "batch_server:CallFault",
    "ChatServer": "server:ChatServer",
    "End": "replies:End",
    "Received": "loopback:Received",
    "Reply": "replies:Reply",
    "batch_faults": "batch_faults",
    "faults": "faults",
    "replies": "replies",
}


def __getattr__(name: str) -> Any:
    # Late, because pytest imports the plugin, and so this package, in every project of the user's environment.
    if name in _PLACES:
        return pkgutil.resolve_name(f"{__name__}.{_PLACES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
