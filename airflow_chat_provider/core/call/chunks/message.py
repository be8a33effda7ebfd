"""A choice's message, from the deltas of a stream, and from whole messages that came beside them or instead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from airflow_chat_provider.core.call.chunks import readings
from airflow_chat_provider.core.call.chunks.pieces import Merger, Overfull, Text, is_empty, joined
from airflow_chat_provider.core.call.chunks.readings import Means, Reading, parses
from airflow_chat_provider.core.call.chunks.tool_calls import ToolCall, ToolCalls, read_call
from airflow_chat_provider.core.types import JSON, JSONObject

CALLS, FUNCTION = "tool_calls", "function_call"
_ONE_WORD = frozenset({"role", "name", "id"})  # which no server sends in pieces

_DIFFERS = "Check the text of {}: the stream sent it in pieces and in `message`, which differ: the longer was taken"
_IN_PIECES = "Check the text of {}: the stream seems to have sent it in `message` in pieces: they were joined"
_REPEATED = "Check the text of {}: the stream sent it in `message` several times: the last one was taken"
_OTHER_FORM = "Check `content`: the stream sent it in pieces and in `message`, which differ: the pieces were taken"
_OTHER_CALLS = "Check the tool calls: the stream sent them in fragments and in `message`, which differ"
_TOO_MANY = "Check the tool calls: the stream sent too many in `message` to compare them: the last ones were taken"


class WholeMessages:
    """The whole messages of a choice. ``behind``: the fields that deltas went on with after the last of them."""

    def __init__(self) -> None:
        self._messages: list[JSONObject] = []
        self.behind: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, message: JSONObject) -> None:
        self._messages.append(message)
        self.behind.clear()

    def fields(self) -> dict[str, list[JSON]]:
        """The values of each field in all messages, in their order. An empty value is kept only if all are empty."""
        found: dict[str, list[JSON]] = {}
        for message in self._messages:
            for key, value in message.items():
                said = found.setdefault(key, [])
                if is_empty(value):
                    if not said:
                        said.append(value)
                elif said and is_empty(said[0]):
                    said[0] = value
                else:
                    said.append(value)
        return found


def settle_message(pieces: JSONObject, ends: set[str], whole: WholeMessages, doubts: list[str]) -> JSONObject:
    """The message as an unstreamed body has it; what is doubtful about it is added to ``doubts``.

    ``pieces``: what deltas brought, by field. ``ends``: the fields whose last piece came with the finish_reason.
    """
    texts = {
        key: ([piece for piece in value if piece], key in ends)
        for key, value in pieces.items()
        if isinstance(value, Text)
    }
    read_as = readings.read_together(texts)
    made = {key: read_as[key].text if key in read_as else _made(value, doubts) for key, value in pieces.items()}
    for key, said in whole.fields().items() if whole else ():
        said_texts = [value for value in said if isinstance(value, str)]
        if key == CALLS:
            _compare_calls(made, said, doubts)
        elif key in _ONE_WORD:
            made[key] = made.get(key) or said[-1]
        elif isinstance(made.get(key) or "", str) and len(said_texts) == len(said):
            reading = read_as.pop(key, Reading(Means.NEW, ""))
            parts = texts[key][0] if key in texts else []
            made[key], sentence = _text(parts, reading, said_texts, behind=key in whole.behind)
            sentence = sentence or (readings.doubt(key, reading.means) if sentence is None else "")
            if sentence:
                doubts.append(sentence.format(readings.named(key)))
        elif is_empty(made.get(key)):
            made[key] = _said(key, said)
        elif key == "content" and not is_empty(said[-1]) and _plain(made[key]) != _plain(said[-1]):
            doubts.append(_OTHER_FORM)
    doubts += [sentence for key, reading in read_as.items() if (sentence := readings.doubt(key, reading.means))]
    role = made.get("role")
    return {**made, "role": "assistant" if is_empty(role) else role, "content": made.get("content")}


def _made(value: object, doubts: list[str]) -> Any:
    if isinstance(value, ToolCalls):
        return value.made(doubts)
    return value.inside(doubts) if isinstance(value, ToolCall) else joined(value)


def _plain(content: JSON) -> Any:
    """The text of a content, which may be a list of parts."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _text(parts: Sequence[str], reading: Reading, said: list[str], *, behind: bool) -> tuple[str, str | None]:
    """A text that came in whole messages, too, and the doubt about it.

    The doubt is empty where the two agree, and None where that of the pieces alone stays.
    """
    last = said[-1]
    if not last:
        return reading.text, None
    if not parts:
        return _from_messages(said)
    text = "".join(parts)
    if text.strip() == last.strip() or text == "".join(said):
        return text, ""
    if reading.whole is not None and reading.whole.strip() == last.strip():
        return reading.whole, ""
    if behind and reading.text.startswith(last):
        return reading.text, None
    return max(reading.text, last, key=len), _DIFFERS


def _from_messages(said: list[str]) -> tuple[str, str]:
    """A text that came only in whole messages, and the doubt about it.

    It came in one of them, in each as far as it was, or, which is rare, in pieces.
    """
    last = said[-1]
    if len(said) == 1:
        return last, ""
    reading = readings.read(said)
    if readings.grows(said):
        return last, "" if reading.means is not Means.NEW or len(set(said)) == 1 else _REPEATED
    if reading.means is Means.AGAIN:
        return last, ""
    return "".join(said), _IN_PIECES


def _compare_calls(made: JSONObject, said: list[JSON], doubts: list[str]) -> None:
    lists = [item if isinstance(item, list) else [item] for item in said if not is_empty(item)]
    if not lists:
        made.setdefault(CALLS, said[-1])
        return
    calls, mine = _whole_calls(lists, doubts), made.get(CALLS)
    if not mine or not isinstance(mine, list):
        made[CALLS] = calls
    elif len(mine) != len(calls) or not all(map(_is_same_call, mine, calls)):
        doubts.append(_OTHER_CALLS)
        if not all(parses(_arguments(call)) for call in mine):
            made[CALLS] = calls


def _whole_calls(lists: Sequence[list[Any]], doubts: list[str]) -> list[Any]:
    """The calls of whole messages: the last has all of them, or each has some more."""
    merger = Merger.free()
    calls = ToolCalls(merger)
    try:
        if all(_goes_on(before, after) for before, after in pairwise(lists)):
            calls.add(lists[-1], each_whole=True)
            return calls.made([])
        for some in lists:
            calls.add(some)
        return calls.made(doubts)
    except Overfull:
        doubts.append(_TOO_MANY)
        return lists[-1]


def _goes_on(before: list[JSON], after: list[JSON]) -> bool:
    """Does the next message have all calls of the one before, at least as far as they had come?"""
    return len(after) >= len(before) and all(map(_is_further, before, after))


def _is_further(before: JSON, after: JSON) -> bool:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return bool(before == after)
    mine, theirs = read_call(before), read_call(after)
    if (mine.id, mine.name) != (theirs.id, theirs.name):
        return False
    if isinstance(mine.arguments, str) and isinstance(theirs.arguments, str):
        return theirs.arguments.startswith(mine.arguments)
    return bool(mine.arguments == theirs.arguments)


def _is_same_call(one: JSON, other: JSON) -> bool:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return bool(one == other)
    return read_call(one).name == read_call(other).name and readings.same_arguments(_arguments(one), _arguments(other))


def _arguments(call: JSON) -> Any:
    return read_call(call).arguments or "" if isinstance(call, dict) else ""


def _said(key: str, said: list[JSON]) -> Any:
    """A field that came only in whole messages: its last value, or all lists if one does not repeat the one before."""
    if key == FUNCTION and isinstance(said[-1], dict):
        call = ToolCall(Merger.free())
        call.take(read_call({"function": said[-1]}))
        return call.inside([])
    lists = [item for item in said if isinstance(item, list)]
    if len(lists) == len(said) and any(before != after[: len(before)] for before, after in pairwise(lists)):
        return [item for some in lists for item in some]
    return said[-1]
