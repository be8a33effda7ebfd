"""A fragment of a streamed tool call, and a tool call as far as its fragments came."""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_chat_provider.core.call.chunks.pieces import Merger, Overfull, Text, joined
from airflow_chat_provider.core.call.chunks.readings import Progress, arguments_text, come_together, parses
from airflow_chat_provider.core.json_text.reading import SCALAR, weight
from airflow_chat_provider.core.types import JSON, JSONObject

_OWN = frozenset({"index", "id", "type", "function", "custom"})
_INNER = frozenset({"name", "arguments", "input"})
_LONGEST_NAME = 4096  # characters
_BARE = 16  # characters, blanks included

_CUT = "Check the tool calls: the fragments of one had different ids, and together they are not a JSON object"
_RENAMED = "Check the tool calls: the name of one changed after its arguments had begun: the first name was kept"
_ODD = "Check the arguments of the tool calls: the stream sent those of one in several ways, which do not agree"


class Fragment(NamedTuple):
    """What one fragment says. ``inner`` is its ``function`` or ``custom`` object, ``number`` its index."""

    raw: JSONObject
    inner: JSONObject
    custom: bool
    id: JSON
    number: int | None
    name: str
    arguments: JSON

    @property
    def is_head(self) -> bool:
        """Does it say more of a call than its name and arguments?"""
        return bool(self.id or self.raw.get("type"))

    @property
    def blank(self) -> bool:
        """Are there no arguments in it?"""
        return self.arguments is None or (isinstance(self.arguments, str) and not self.arguments.strip())

    @property
    def opens(self) -> bool:
        """Do its arguments begin with a brace?"""
        return isinstance(self.arguments, dict) or (
            isinstance(self.arguments, str) and self.arguments.lstrip()[:1] == "{"
        )


def read_call(raw: JSONObject) -> Fragment:
    """What a call, or a fragment of one, says."""
    function, custom = raw.get("function"), raw.get("custom")
    is_custom = isinstance(custom, dict) and not isinstance(function, dict)
    inner = custom if is_custom else function
    inner = inner if isinstance(inner, dict) else {}
    name, identity = inner.get("name"), raw.get("id")
    usable = isinstance(identity, str | int) and bool(identity)
    return Fragment(
        raw,
        inner,
        is_custom,
        identity if usable else None,
        number_of(raw.get("index")),
        name if isinstance(name, str) else "",
        inner.get("input" if is_custom else "arguments"),
    )


def number_of(index: JSON) -> int | None:
    """An index, which some servers write as a text or a float; None if it is not one."""
    if isinstance(index, str) and len(index) < 8 and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


class ToolCall:
    """One tool call, as far as it came.

    ``seen``: which of its own fields came, even if empty. ``again``: its name came more than once. ``changed``: it came
    with more than one id. ``renamed``: another name came when its arguments had begun.
    """

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._fields: JSONObject = {}
        self._inner: JSONObject = {}
        self._progress = Progress()
        self._objects: list[JSON] = []
        self.size = 0
        self.pieces = Text()
        self.custom = False
        self.seen: set[str] = set()
        self.id: JSON = None
        self.ids: set[Any] = set()
        self.number: int | None = None
        self.kind = ""
        self.name = ""
        self.again = self.renamed = False

    @property
    def changed(self) -> bool:
        return len(self.ids) > 1

    @property
    def blank(self) -> bool:
        """Have no arguments come?"""
        return not self._objects and (not self.pieces or not self._seen_so_far().begun)

    @property
    def whole(self) -> bool:
        """Are its arguments whole JSON?"""
        return bool(self._objects) or (not self.custom and self._seen_so_far().whole)

    def _seen_so_far(self) -> Progress:
        self._progress.look(self.pieces)
        return self._progress

    def goes_on_with(self, fragment: Fragment) -> bool:
        """May the fragment's arguments be the next piece, or all of it so far? Ask only while it is not whole."""
        if not fragment.opens or self._seen_so_far().takes_object:
            return True
        return isinstance(fragment.arguments, str) and fragment.arguments.startswith(self.pieces[-1])

    def holds(self, arguments: JSON) -> bool:
        """Are these all the arguments that it has?"""
        if not isinstance(arguments, str):
            return bool(self._objects) and bool(self._objects[-1] == arguments)
        if self.pieces and arguments == self.pieces[-1]:
            return True
        return len(arguments) == self.size and arguments == "".join(self.pieces)

    def take(self, fragment: Fragment) -> None:
        raw, inner = fragment.raw, fragment.inner
        self.custom = self.custom or fragment.custom
        self.seen.update(raw.keys() & _OWN, inner.keys() & _INNER)
        if fragment.id is not None:
            self.id = self.id or fragment.id
            if fragment.id not in self.ids:
                self._merger.weigh(2 * SCALAR)
                self.ids.add(fragment.id)
        elif self.id is None:
            self.id = raw.get("id")
        if fragment.number is not None:
            self.number = fragment.number
        kind = raw.get("type")
        if isinstance(kind, str) and not self.kind:
            self.kind = kind
        self._take_name(fragment.name)
        self._take_arguments(fragment.arguments)
        for fields, kept, own in ((raw, self._fields, _OWN), (inner, self._inner, _INNER)):
            for key in fields.keys() - own:
                self._merger.merge_field(kept, key, fields[key])

    def _take_name(self, name: str) -> None:
        """A name comes whole, once or with each fragment; in pieces; or as far as it is with each fragment."""
        if not name:
            return
        self.again = self.again or self.name != ""
        if name == self.name:
            return
        if not self.name or (self.blank and name.startswith(self.name)):
            self.name = name
        elif self.blank:
            self.name += name
        else:
            self.renamed = True
        if len(self.name) > _LONGEST_NAME:
            raise Overfull(f"the stream has a tool call whose name is longer than {_LONGEST_NAME} characters")

    def _take_arguments(self, arguments: JSON) -> None:
        if isinstance(arguments, str):
            self.add_piece(arguments)
        elif arguments is not None:
            self._merger.weigh(weight(arguments))
            self._objects.append(arguments)

    def add_piece(self, piece: str) -> None:
        """More of the arguments, and nothing else."""
        if piece:
            self._merger.weigh(SCALAR)
            self.size += len(piece)
            self.pieces.append(piece)

    def is_one_with(self, call: ToolCall, *, numbered: bool) -> bool:
        """Is ``call``, which seemed to begin another one, more of this one? ``numbered``: they have the same index."""
        if call.name not in ("", self.name) and not (numbered and self.blank):
            return False
        if self.blank and call.blank:
            return numbered
        if call.name and not numbered and not self.blank:
            if (self.ids and call.ids) or not (call.blank or self.is_like(call)):
                return False
        elif call.name and not numbered and not (call.again or call.changed):
            return False
        return call.blank or come_together([*self.pieces, *call.pieces], [*self._objects, *call._objects])

    @property
    def bare(self) -> bool:
        """Are its arguments just ``{}``? Some servers send that first, whatever comes."""
        return self.size < _BARE and not self._objects and "".join(self.pieces).split() == ["{}"]

    def may_be(self, call: ToolCall) -> bool:
        """Could ``call`` be this one once more, or the rest of it?"""
        return self.name == call.name and (self.blank or self.bare or call.blank or self.is_like(call))

    def is_like(self, call: ToolCall) -> bool:
        """Do they have the same name and arguments?"""
        if self.name != call.name or bool(self._objects) or bool(call._objects):
            return self.name == call.name and self._objects == call._objects
        return call.holds("".join(self.pieces)) or self.holds("".join(call.pieces))

    def with_more(self, call: ToolCall) -> ToolCall:
        """A new call that is both as one."""
        made = ToolCall(Merger.free())
        made._fields, made._inner = {**call._fields, **self._fields}, {**call._inner, **self._inner}
        made._objects, made.pieces = [*self._objects, *call._objects], Text([*self.pieces, *call.pieces])
        made.seen, made.ids, made.number = self.seen | call.seen, self.ids | call.ids, self.number
        made.custom, made.id, made.kind = self.custom or call.custom, self.id or call.id, self.kind or call.kind
        made.name = self.name if self.name == call.name else self.name + call.name
        made.size = self.size + call.size
        made.again, made.renamed = True, self.renamed or call.renamed
        return made

    def inside(self, doubts: list[str], *, plain: bool = False) -> JSONObject:
        """The ``function`` or ``custom`` object. ``plain``: only join the pieces of its arguments."""
        if self.custom or (plain and not self._objects):
            text = "".join(self.pieces)
        else:
            text, sure = arguments_text(self.pieces, self._objects)
            if not sure:
                doubts.append(_ODD)
            if self.changed and not parses(text):
                doubts.append(_CUT)
        if self.renamed:
            doubts.append(_RENAMED)
        name = {"name": self.name} if self.name or "name" in self.seen else {}
        return {**name, "input" if self.custom else "arguments": text, **joined(self._inner)}

    def made(self, doubts: list[str], *, plain: bool) -> JSONObject:
        """The call as an unstreamed message has it."""
        made: JSONObject = {"id": self.id} if "id" in self.seen else {}
        held = "custom" if self.custom else "function"
        if held in self.seen:
            made |= {"type": self.kind or held, held: self.inside(doubts, plain=plain)}
        elif self.kind:
            made["type"] = self.kind
        return {**made, **joined(self._fields)}
