"""From rows to the files of requests that a vendor's batch API takes."""

from __future__ import annotations

import json
import re
import tempfile
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.input import row_error
from airflow_chat_provider.batch.output.lines import default_id
from airflow_chat_provider.transport import server_memory
from airflow_chat_provider.transport.session import call_for

if TYPE_CHECKING:
    from airflow_chat_provider.batch.engine import Engine
    from airflow_chat_provider.batch.input import Row
    from airflow_chat_provider.batch.orders import Order
    from airflow_chat_provider.core.answer.dialogue import Dialogue, Wanted
    from airflow_chat_provider.core.call.steps import Call
    from airflow_chat_provider.core.request.attachments import Attachments

MOST_REQUESTS, MOST_BYTES = 50_000, 190_000_000
"""What one file may have. OpenAI takes 50,000 requests and 200 MB."""


def once(wanted: Wanted) -> Wanted:
    """What is wanted of an answer, where nobody can ask again at once: the next try of the task does that."""
    return wanted._replace(retries=0)


def dialogue_of(engine: Engine, request: dict[str, Any]) -> Dialogue:
    """The dialogue about a row's request; it has one call. The same for what is sent and for what comes back."""
    return server_memory.begin(request, once(engine.wanted), engine.settings)


class RequestFile:
    """A file of requests that is being written, for one order. It has no name, and goes with this process."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.size = 0
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    def has_room(self, line: bytes) -> bool:
        return self.order.requests < MOST_REQUESTS and self.size + len(line) <= MOST_BYTES

    def add(self, index: int, line: bytes, model: object) -> None:
        self.file.write(line)
        self.size += len(line)
        self.order.add(index, model)

    def close(self) -> None:
        self.file.close()


def check_stream(row: Row, request: dict[str, Any]) -> None:
    """Raise InvalidRequest for a request that no batch API takes."""
    if request.get("stream"):
        raise row_error(row.place, "the batch API does not stream: leave out 'stream'", "stream")


def call_of(engine: Engine, row: Row, request: dict[str, Any], files: Attachments) -> Call:
    """The call for a row's request, whose files are read now.

    Raises InvalidRequest, and TransportError for an attachment that cannot be read.
    """
    check_stream(row, request)
    return call_for(dialogue_of(engine, request).request, engine.settings, files)


_NAME = re.compile(re.escape(default_id(0)).replace("0", r"(0|[1-9]\d{0,17})") + "(?:-([0-9a-f]{32}))?")


def name_of(index: int, digest: str) -> str:
    """The custom_id of a row: a name of ours, since users' ids may be anything, with the digest of what is asked."""
    return f"{default_id(index)}-{digest}"


def row_named(custom_id: object) -> tuple[int, str | None] | None:
    """The index and the digest in a custom_id; None for one that is not ours."""
    match = _NAME.fullmatch(custom_id) if isinstance(custom_id, str) else None
    return None if match is None else (int(match[1]), match[2])


def request_line(row: Row, digest: str, call: Call, endpoint: str) -> bytes:
    """The line of a row: its request as it would be sent.

    Raises InvalidRequest for one that is too long.
    """
    content = call.contents[0]
    head = f'{{"custom_id":"{name_of(row.index, digest)}","method":"POST","url":{json.dumps(endpoint)},"body":'
    line = head.encode() + content + b"}\n"
    if len(line) > MOST_BYTES:
        size, limit = f"{len(line) / 1e6:,.0f} MB", f"{MOST_BYTES / 1e6:,.0f} MB"
        raise row_error(row.place, f"its request has {size}, and the batch API takes {limit} at most", "maximum")
    return line
