"""A stream's chunks, put together into the body that the same call returns unstreamed."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.call.chunks.message import CALLS, FUNCTION, WholeMessages, settle_message
from airflow_chat_provider.core.call.chunks.pieces import Merger, Overfull, Text, is_empty, joined
from airflow_chat_provider.core.call.chunks.tool_calls import ToolCall, ToolCalls, number_of, read_call
from airflow_chat_provider.core.json_text.reading import DEFAULT_LIMIT, SCALAR, weight
from airflow_chat_provider.core.types import JSON, JSONObject

_DROPPED = frozenset({"choices", "object", "obfuscation", "error"})
_FIRST = frozenset({"id", "created", "model"})  # the first value counts; of all other fields the last
_CHOICES = 128  # of an answer, unless the request asks for more: as many as the API allows
_NONE = object()
_OWN = frozenset({"index", "delta", "message"})
_CHAINED = frozenset({"token_ids"})  # vLLM's; other lists of a choice are whole in each chunk
_WEIGHT = 16  # of an empty choice, in the units of ``reading.weight``
_UNREAD = "A part of the stream was ignored: a delta that is neither an object nor a text"
_BESIDE = "Check `content`: chunks of the stream had another text beside their delta, which was ignored"


class Assembly:
    """``add`` each chunk, then ``body`` is the completion so far. ``finished``: every choice has its finish_reason.

    Fields that are not known here are kept: text is joined, lists are chained, objects are merged. ``choices``: how
    many the request asks for. ``limit``: see ``reading.allowance``. ``doubts``: sentences about what ``body`` had to
    guess when it was called last; they quote nothing.
    """

    def __init__(self, choices: int = 1, limit: int = DEFAULT_LIMIT) -> None:
        self._top: JSONObject = {}
        self._choices: dict[int, Choice] = {}
        self._most_choices = max(choices, _CHOICES)
        self._merger = Merger(limit)
        self.doubts: tuple[str, ...] = ()

    def add(self, chunk: JSONObject, size: int = 1 << 10) -> None:
        """Take one parsed chunk in, of ``size`` bytes; raises Overfull."""
        self._merger.size += size
        top = self._top
        for key, value in chunk.items():
            if key not in _DROPPED and top.get(key, _NONE) != value:
                self._add_top(key, value)
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                index = choice.get("index")
                kept = self._choices.get(index) if type(index) is int else None
                (kept or self._choice(index, position)).add(choice)

    @property
    def empty(self) -> bool:
        return not self._top and not self._choices

    @property
    def begun(self) -> int:
        """How many choices have begun."""
        return len(self._choices)

    @property
    def finished(self) -> bool:
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def body(self) -> JSONObject:
        doubts: list[str] = []
        choices = [choice.made(index, doubts) for index, choice in sorted(self._choices.items())]
        top = dict(self._top)
        usage = top.get("usage") or _usage_elsewhere(top, choices)
        top.pop("usage", None)
        self.doubts = tuple(dict.fromkeys(doubts))
        return {**top, **({"usage": usage} if usage else {}), "object": "chat.completion", "choices": choices}

    def _add_top(self, key: str, value: JSON) -> None:
        old = self._top.get(key)
        if key in self._top and ((old and key in _FIRST) or is_empty(value)):
            return
        self._merger.put(self._top, key, value)

    def _choice(self, said: JSON, position: int) -> Choice:
        """The choice that a chunk's index names; without one, the place in the chunk counts."""
        number = number_of(said)
        index = position if number is None else number
        if index not in self._choices:
            if len(self._choices) >= self._most_choices:
                raise Overfull(f"the stream has more than {self._most_choices} choices")
            self._choices[index] = Choice(self._merger)
        return self._choices[index]


def _usage_elsewhere(top: JSONObject, choices: list[JSONObject]) -> Any:
    """The usage in ``x_groq`` (Groq), or the one of the choices (Moonshot), which is taken out of them; else None."""
    groq = top.get("x_groq")
    if isinstance(groq, dict) and groq.get("usage"):
        return groq["usage"]
    found = [choice["usage"] for choice in choices if choice.get("usage")]
    if not found or any(usage != found[0] for usage in found):
        return None
    for choice in choices:
        choice.pop("usage", None)
    return found[0]


class Choice:
    """``add`` what each chunk has of it; ``made`` is the choice as an unstreamed body has it."""

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._fields: JSONObject = {}
        self._message: JSONObject = {}
        self._whole = WholeMessages()
        self._ends: set[str] = set()
        self._doubts: list[str] = []
        merger.weigh(_WEIGHT)

    @property
    def finish_reason(self) -> Any:
        """None until it came. Gemini's compatible API once wrote it in its own spelling."""
        return self._fields.get("finish_reason") or self._fields.get("finishReason")

    def add(self, choice: JSONObject) -> None:
        for key, value in choice.items():
            if value is None:
                if key not in self._fields and key not in _OWN:
                    self._merger.put(self._fields, key, None)
            elif key == "delta":
                self._add_delta(value, choice)
            elif key == "message":
                self._add_message(value)
            elif key != "index":
                self._add_field(key, value, choice)

    def _add_delta(self, delta: JSON, choice: JSONObject) -> None:
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
        if self._whole and not choice.get("message"):
            self._whole.behind.update(key for key, value in delta.items() if value)

    def _add_value(self, key: str, value: JSON) -> None:
        if key == "content" and isinstance(value, dict):  # one part, without the list
            value = [value]
        if not isinstance(self._message.get(key), ToolCalls | ToolCall):
            self._merger.merge_field(self._message, key, value)

    def _add_calls(self, key: str, value: JSON) -> None:
        kept = self._message.get(key)
        if key == FUNCTION:
            if not isinstance(kept, ToolCall):
                kept = self._message[key] = ToolCall(self._merger)
            kept.take(read_call({"function": value} if isinstance(value, dict) else {}))
            return
        if not isinstance(kept, ToolCalls):
            kept = self._message[key] = ToolCalls(self._merger)
        kept.add(value if isinstance(value, list) else [value])

    def _add_message(self, message: JSON) -> None:
        """Keep a message that came beside a delta or instead: what it means shows itself at the end."""
        if isinstance(message, str):
            message = {"content": message}
        if isinstance(message, dict):
            self._merger.weigh(SCALAR + weight(message))
            self._whole.add(message)
        elif message:
            self._doubt(_UNREAD)

    def _add_field(self, key: str, value: JSON, choice: JSONObject) -> None:
        old, merger = self._fields.get(key), self._merger
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
            merger.put(self._fields, key, value)
        elif not isinstance(old, dict):
            merger.put(self._fields, key, dict(value))
        else:  # Azure's last content_filter_results is empty
            for name, item in value.items():
                merger.put(old, name, item)

    def _add_log_probabilities(self, value: JSON) -> None:
        """Chain the tokens of each field, chunk after chunk."""
        kept = self._fields.get("logprobs")
        if not isinstance(value, dict) or not all(item is None or isinstance(item, list) for item in value.values()):
            self._merger.merge_field(self._fields, "logprobs", value)
            return
        if not isinstance(kept, dict):
            self._merger.put(self._fields, "logprobs", {})
            kept = self._fields["logprobs"]
        for key, tokens in value.items():
            if tokens is not None:
                self._merger.chain(kept, key, tokens)
            elif key not in kept:
                self._merger.put(kept, key, None)

    def _add_bare_text(self, text: str, choice: JSONObject) -> None:
        """Take the ``text`` of the old completions API, if the delta has none. Together sends both."""
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

    def made(self, index: int, doubts: list[str]) -> JSONObject:
        doubts += self._doubts
        message = settle_message(self._message, self._ends, self._whole, doubts)
        fields = joined(self._fields)
        if not fields.get("finish_reason") and fields.get("finishReason"):
            fields["finish_reason"] = fields.pop("finishReason")
        return {"finish_reason": None, **fields, "index": index, "message": message}
