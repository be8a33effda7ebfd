"""One row of a batch, and how a template sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest

_ID_BITS = 4096  # Python refuses to write out more than 4,300 digits
_OPENAI_LINE = frozenset({"custom_id", "method", "url", "body"})
_BARE_LINE = frozenset({"custom_id", "body"})


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input. ``index`` counts from 0 over the whole input, also in a shard.

    ``place`` is where a reader finds the row (``reviews.jsonl:17``). ``error`` says why there is no ``value``.
    ``size`` is in bytes of its file.
    """

    index: int
    place: str
    value: Any = None
    error: ChatCompletionError | None = None
    size: int = 0

    @property
    def is_request_line(self) -> bool:
        """Is it a line of a batch file? Such a line is sent as it is."""
        return isinstance(self.value, dict) and (self.value.keys() >= _OPENAI_LINE or self.is_bare_line)

    @property
    def is_bare_line(self) -> bool:
        """Is it a line of Together's or Mistral's batch files, which may leave out method and url?

        A row of data may have columns of these names, too. So the line must hold nothing else, and its body messages.
        """
        value = self.value
        return isinstance(value, dict) and _BARE_LINE <= value.keys() < _OPENAI_LINE and _has_messages(value["body"])

    def own_id(self, id_key: str) -> str | None:
        """The row's id as text, so that 5 and "5" are the same id; None where it has none."""
        value = self.value.get(id_key) if isinstance(self.value, dict) else None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value) if value.bit_length() <= _ID_BITS else None
        return str(value) if isinstance(value, str) and value else None


def _has_messages(body: Any) -> bool:
    messages = body.get("messages") if isinstance(body, Mapping) else None
    return isinstance(messages, list) and all(isinstance(one, Mapping) and "role" in one for one in messages)


def row_error(place: str, why: str, keyword: str = "row") -> InvalidRequest:
    """The error of a row that is not sent."""
    return InvalidRequest(f"Correct {place}: {why}", path=place, keyword=keyword)


def body_of(line: dict[str, Any], place: str, endpoint: str) -> Any:
    """The request in a line of a batch file. Raises InvalidRequest for a method or url that is not the connection's."""
    method, url = line.get("method", "POST"), line.get("url", endpoint)
    if not isinstance(line["custom_id"], str) or not line["custom_id"]:
        raise row_error(place, "custom_id must be text")
    if method != "POST":
        raise row_error(place, "method must be POST")
    if not isinstance(url, str) or not url.rstrip("/").endswith(endpoint.rstrip("/")):
        raise row_error(place, f"url must end in {endpoint}, the endpoint of the connection")
    return line["body"]
