"""One choice of a stream: its deltas, and what else the chunks say of it."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.call.chunks.fragment import read_call
from airflow_chat_provider.core.call.chunks.message import CALLS, FUNCTION, Told, settled
from airflow_chat_provider.core.call.chunks.pieces import Merger, Text, is_empty, joined
from airflow_chat_provider.core.call.chunks.tool_call import Call
from airflow_chat_provider.core.call.chunks.tool_calls import Calls
from airflow_chat_provider.core.json_text.reading import SCALAR, weight

_OWN = frozenset({"index", "delta", "message"})
_CHAINED = frozenset({"token_ids"})  # vLLM's; other lists of a choice are whole in each chunk
_WEIGHT = 16  # of a choice without anything, in the units of ``reading.weight``
_UNREAD = "A part of the stream was left out: a delta that is neither an object nor a text"
_BESIDE = "Check the text of `content`: the stream's chunks had another text beside their delta, which was left out"


class Choice:
    """``add`` what each chunk has of it; ``made`` is the choice as an unstreamed body has it."""

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._fields: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._told = Told()
        self._ends: set[str] = set()
        self._doubts: list[str] = []
        merger.scale.weigh(_WEIGHT)

    @property
    def finish_reason(self) -> Any:
        """Gemini's compatible API once wrote it in its own spelling."""
        return self._fields.get("finish_reason") or self._fields.get("finishReason")

    def add(self, choice: dict[str, Any]) -> None:
        for key, value in choice.items():
            if value is None:
                if key not in self._fields and key not in _OWN:
                    self._merger.scale.put(self._fields, key, None)
            elif key == "delta":
                self._add_delta(value, choice)
            elif key == "message":
                self._add_message(value)
            elif key != "index":
                self._add_field(key, value, choice)

    def _add_delta(self, delta: Any, choice: dict[str, Any]) -> None:
        if isinstance(delta, str):
            delta = {"content": delta}
        elif not isinstance(delta, dict):
            if delta:
                self._doubt(_UNREAD)
            return
        kept = self._message
        for key, value in delta.items():
            old = kept.get(key)
            if type(old) is Text and type(value) is str:
                self._merger.add_text(old, key, value)
            elif key in (CALLS, FUNCTION) and isinstance(value, list | dict):
                self._add_calls(key, value)
            elif not old or not is_empty(value):
                self._add_value(key, value)
        if choice.get("finish_reason"):
            self._ends.update(key for key, value in delta.items() if value and isinstance(value, str))
        if self._told and not choice.get("message"):
            self._told.behind.update(key for key, value in delta.items() if value)

    def _add_value(self, key: str, value: Any) -> None:
        if key == "content" and isinstance(value, dict):  # one part, without the list
            value = [value]
        if not isinstance(self._message.get(key), Calls | Call):
            self._merger.merge_field(self._message, key, value)

    def _add_calls(self, key: str, value: Any) -> None:
        kept = self._message.get(key)
        if key == FUNCTION:
            if not isinstance(kept, Call):
                kept = self._message[key] = Call(self._merger)
            kept.take(read_call({"function": value} if isinstance(value, dict) else {}))
            return
        if not isinstance(kept, Calls):
            kept = self._message[key] = Calls(self._merger)
        kept.add(value if isinstance(value, list) else [value])

    def _add_message(self, message: Any) -> None:
        """A message beside a delta, or in its place: what it means shows itself at the end."""
        if isinstance(message, str):
            message = {"content": message}
        if isinstance(message, dict):
            self._merger.scale.weigh(SCALAR + weight(message))
            self._told.add(message)
        elif message:
            self._doubt(_UNREAD)

    def _add_field(self, key: str, value: Any, choice: dict[str, Any]) -> None:
        old, scale = self._fields.get(key), self._merger.scale
        if key == "logprobs":
            self._add_log_probabilities(value)
        elif key in _CHAINED and isinstance(value, list):
            self._merger.chain(self._fields, key, value)
        elif key == "text" and isinstance(value, str):
            self._add_bare_text(value, choice)
        elif value in ("", "null") and key in ("finish_reason", "finishReason"):
            self._fields.setdefault(key, None)
        elif value == "" and key in self._fields:
            return
        elif not isinstance(value, dict):
            scale.put(self._fields, key, value)
        elif not isinstance(old, dict):
            scale.put(self._fields, key, dict(value))
        else:  # Azure's last content_filter_results is empty
            for name, item in value.items():
                scale.put(old, name, item)

    def _add_log_probabilities(self, value: Any) -> None:
        """The tokens of each field: those of one chunk after those of the other."""
        kept = self._fields.get("logprobs")
        if not isinstance(value, dict) or not all(item is None or isinstance(item, list) for item in value.values()):
            self._merger.merge_field(self._fields, "logprobs", value)
            return
        if not isinstance(kept, dict):
            self._merger.scale.put(self._fields, "logprobs", {})
            kept = self._fields["logprobs"]
        for key, tokens in value.items():
            if tokens is not None:
                self._merger.chain(kept, key, tokens)
            elif key not in kept:
                self._merger.scale.put(kept, key, None)

    def _add_bare_text(self, text: str, choice: dict[str, Any]) -> None:
        """The text of a chunk as the old completions have it, where the delta has none; Together has it twice."""
        delta = choice.get("delta")
        content = delta.get("content") if isinstance(delta, dict) else delta
        if not content:
            self._merger.merge_field(self._message, "content", text)
            if text and choice.get("finish_reason"):
                self._ends.add("content")
        elif text not in ("", content):
            self._doubt(_BESIDE)

    def _doubt(self, sentence: str) -> None:
        if sentence not in self._doubts:
            self._doubts.append(sentence)

    def made(self, index: int, doubts: list[str]) -> dict[str, Any]:
        doubts += self._doubts
        message = settled(self._message, self._ends, self._told, doubts)
        fields = joined(self._fields)
        if not fields.get("finish_reason") and fields.get("finishReason"):
            fields["finish_reason"] = fields.pop("finishReason")
        return {"finish_reason": None, **fields, "index": index, "message": message}
