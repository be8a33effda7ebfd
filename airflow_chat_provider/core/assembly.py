"""A stream's chunks put together into the body that the same call returns unstreamed."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.reading import DEFAULT_LIMIT, SCALAR, allowance, weight

_DROPPED = frozenset({"choices", "object", "obfuscation", "error"})
# Sent whole, by some servers with every chunk again; all other text comes in pieces.
_WHOLE = frozenset({"id", "type", "role", "name", "format"})
_CHOICES = 128  # of an answer to a request that asks for fewer; the API has no request for more
_CALLS = 4096  # of one message


class Overfull(Exception):
    """The chunk holds more than an answer can; its text says what. All that came before it is kept."""


class Assembly:
    """``add`` each chunk; ``finished`` when every choice has its finish_reason, ``body`` is the completion so far.

    Fields that are unknown here are kept: text is joined, lists are chained, objects are merged. ``choices``: how many
    the request asks for; ``limit``: see ``reading.allowance``.
    """

    doubts: tuple[str, ...] = ()

    def __init__(self, choices: int = 1, limit: int = DEFAULT_LIMIT) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._most_choices = max(choices, _CHOICES)
        self._limit = limit
        self._size = 0
        self._weight = 0

    def add(self, chunk: dict[str, Any], size: int = 1 << 10) -> None:
        """Take one parsed chunk in, of ``size`` bytes; raises Overfull."""
        self._size += size
        for key, value in chunk.items():
            if key not in _DROPPED and (value not in (None, "") or key not in self._top):
                self._put(self._top, key, value)
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                index = choice.get("index")
                self._add_choice(self._choice(index if isinstance(index, int) else position), choice)

    @property
    def empty(self) -> bool:
        return not self._top and not self._choices

    @property
    def begun(self) -> int:
        """The choices of which something came."""
        return len(self._choices)

    @property
    def finished(self) -> bool:
        return bool(self._choices) and all(choice.get("finish_reason") for choice in self._choices.values())

    def body(self) -> dict[str, Any]:
        top = dict(self._top)
        if not top.get("usage"):
            groq = top.get("x_groq")
            top["usage"] = groq.get("usage") if isinstance(groq, dict) else None
            if top["usage"] is None:
                del top["usage"]
        choices = [_whole_choice(index, choice) for index, choice in sorted(self._choices.items())]
        return {**top, "object": "chat.completion", "choices": choices}

    def _weigh(self, units: int) -> None:
        self._weight += units
        if self._weight > allowance(self._size, self._limit):
            raise Overfull("the stream holds more values than max_response_bytes allows for")

    def _put(self, kept: dict[str, Any], key: str, value: Any) -> None:
        """Set a field, whose old value is not kept."""
        old = kept.get(key)
        if isinstance(value, dict | list) or isinstance(old, dict | list):
            self._weigh(weight(value) - (weight(old) if key in kept else 0))
        elif key not in kept:
            self._weigh(SCALAR)
        kept[key] = value

    def _choice(self, index: int) -> dict[str, Any]:
        if index not in self._choices:
            if len(self._choices) >= self._most_choices:
                raise Overfull(f"the stream holds more than {self._most_choices} choices")
            self._choices[index] = {"message": {}}
        return self._choices[index]

    def _add_choice(self, kept: dict[str, Any], choice: dict[str, Any]) -> None:
        for key, value in choice.items():
            if key in ("delta", "message"):
                self._merge(kept["message"], value if isinstance(value, dict) else {})
            elif key == "logprobs":
                self._merge_field(kept, key, value)
            elif key != "index" and (value not in (None, "") or key not in kept):
                old = kept.get(key)
                if not isinstance(value, dict):
                    self._put(kept, key, value)
                elif not isinstance(old, dict):
                    self._put(kept, key, dict(value))
                else:  # Azure's last content_filter_results is empty
                    for name, item in value.items():
                        self._put(old, name, item)

    def _merge(self, kept: dict[str, Any], delta: dict[str, Any]) -> None:
        for key, value in delta.items():
            if key == "tool_calls" and isinstance(value, list):
                self._merge_calls(kept, value)
            else:
                self._merge_field(kept, key, value)

    def _merge_field(self, kept: dict[str, Any], key: str, value: Any) -> None:
        old = kept.get(key)
        if value is None:
            if key not in kept:
                self._put(kept, key, None)
        elif isinstance(value, str) and key not in _WHOLE:
            self._add_text(kept, key, value)
        elif isinstance(value, dict):
            if not isinstance(old, dict):
                self._put(kept, key, {})
            self._merge(kept[key], value)
        elif isinstance(value, list):
            items = kept[key] = old if isinstance(old, _Parts) else _as_list(old)
            for item in value:
                self._append_part(items, item)
        elif not old or not isinstance(value, str):
            self._put(kept, key, value)

    def _add_text(self, kept: dict[str, Any], key: str, value: str) -> None:
        old = kept.get(key)
        if isinstance(old, _Text):
            self._weigh(SCALAR)
            old.append(value)
        elif isinstance(old, _Parts):  # content that began as a list of parts
            if value:
                self._append_part(old, {"type": "text", "text": value})
        else:
            self._put(kept, key, _Text([value]))

    def _append_part(self, items: _Parts, item: Any) -> None:
        """Chain a list's next item; or put it into the one that it continues, by its index or its type."""
        if not isinstance(item, dict):
            self._weigh(weight(item))
            items.append(item)
            return
        index = item.get("index")
        if isinstance(index, int):
            target = items.by_index.get(index)
        else:
            last = items[-1] if items else None
            grows = "type" in item and isinstance(last, dict) and last.get("type") == item["type"]
            target = last if grows and item["type"] in ("text", "thinking") else None
        if target is not None:
            self._merge(target, item)
            return
        fresh: dict[str, Any] = {}
        self._weigh(weight(fresh))
        self._merge(fresh, item)
        items.append(fresh)
        if isinstance(index, int):
            items.by_index[index] = fresh

    def _merge_calls(self, kept: dict[str, Any], fragments: list[Any]) -> None:
        known = kept.get("tool_calls")
        if not isinstance(known, _Calls):
            known = kept["tool_calls"] = _Calls()
        for fragment in fragments:
            if isinstance(fragment, dict):
                target = known.find(fragment)
                if target is None:
                    if len(known) >= _CALLS:
                        raise Overfull(f"the stream holds more than {_CALLS} tool calls")
                    self._weigh(weight({}))
                    known.append(target := {})
                self._merge(target, fragment)
                known.note(target, fragment)


class _Text(list[str]):
    """Text in pieces: joined at the end, or 20,000 pieces would be copied 20,000 times."""


class _Parts(list[Any]):
    """A list, and those of its items that have an ``index``: not searched for, or the time would be a square."""

    def __init__(self, items: Any = ()) -> None:
        super().__init__(items)
        self.by_index: dict[int, dict[str, Any]] = {}


class _Calls(_Parts):
    """Tool calls, found by their ``id`` (the first of that name) or ``index`` (the last of that number)."""

    def __init__(self) -> None:
        super().__init__()
        self._by_id: dict[Any, dict[str, Any]] = {}
        self._by_index: dict[int, dict[str, Any]] = {}

    def find(self, fragment: dict[str, Any]) -> dict[str, Any] | None:
        """The call that a fragment continues; None for a new one.

        By ``index``. Gemini sends none, and whole calls; others send 0 with every call, and tell them apart by ``id``.
        """
        index, name = fragment.get("index"), fragment.get("id")
        if isinstance(name, str | int) and name and name in self._by_id:
            return self._by_id[name]
        if isinstance(index, int):
            last = self._by_index.get(index)
            return None if last is not None and name and last.get("id") else last
        function = fragment.get("function")
        begins = name or (isinstance(function, dict) and function.get("name"))
        return None if begins or not self else self[-1]

    def note(self, target: dict[str, Any], fragment: dict[str, Any]) -> None:
        """A fragment went into ``target``: what it can be found by from now on."""
        index, name = fragment.get("index"), target.get("id")
        if isinstance(name, str | int) and name:
            self._by_id.setdefault(name, target)
        if isinstance(index, int) and (target is self[-1] or index not in self._by_index):
            self._by_index[index] = target


def _as_list(old: Any) -> _Parts:
    if isinstance(old, _Text):
        text = "".join(old)
        return _Parts([{"type": "text", "text": _Text([text])}] if text else [])
    return _Parts(old if isinstance(old, list) else [])


def _whole_choice(index: int, kept: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, **_joined(kept["message"])}
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        call.pop("index", None)
    return {"finish_reason": None, **_joined(kept), "index": index, "message": message}


def _joined(value: Any) -> Any:
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, dict):
        return {key: _joined(item) for key, item in value.items()}
    return [_joined(item) for item in value] if isinstance(value, list) else value
