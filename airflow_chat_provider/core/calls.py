"""Tool calls from the fragments in which a stream brings them, in each of the ways that servers write these.

OpenAI numbers the calls: a call's first fragment has its index, id, type and name, the others the index and more of the
arguments. Other servers leave out the index or send 0 with all, send another id or the name with every fragment, the
name in pieces, or each call whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_chat_provider.core.arguments_so_far import Progress, arguments_text, parses
from airflow_chat_provider.core.pieces import Merger, Overfull, Text, joined
from airflow_chat_provider.core.reading import SCALAR, weight

_MOST = 4096  # calls of one message
_LONGEST_NAME = 4096  # characters
_WEIGHT = 20  # of one call, in the units of ``reading.weight``
_OWN = frozenset({"index", "id", "type", "function", "custom"})
_INNER = frozenset({"name", "arguments", "input"})

_CUT = (
    "Check the tool calls: the fragments of one had different ids in the stream, and together they are no JSON object"
)
_RENAMED = (
    "Check the tool calls: the name of one changed in the stream after its arguments had begun; the first was kept"
)
_TWICE = "Check the tool calls: a name without arguments came twice in the stream, which may be one call or two"
_ALIKE = "Check the tool calls: two in a row are the same, and may be one that the stream repeated"
_ODD = "Check the arguments of the tool calls: one's came in the stream in more than one way, and they do not agree"


class Fragment(NamedTuple):
    """What one fragment says."""

    raw: dict[str, Any]
    inner: dict[str, Any]
    custom: bool
    id: Any
    number: int | None
    name: str
    arguments: Any

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


def read_call(raw: dict[str, Any]) -> Fragment:
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
        _number(raw.get("index")),
        name if isinstance(name, str) else "",
        inner.get("input" if is_custom else "arguments"),
    )


def _number(index: Any) -> int | None:
    if isinstance(index, str) and len(index) < 8 and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


class Call:
    """One call, as far as it came. ``again``: its name came more than once; ``changed``: it came with two ids."""

    __slots__ = (
        "_fields",
        "_inner",
        "_merger",
        "_objects",
        "_progress",
        "_size",
        "again",
        "custom",
        "id",
        "ids",
        "index",
        "kind",
        "name",
        "pieces",
        "renamed",
        "seen",
    )

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._fields: dict[str, Any] = {}
        self._inner: dict[str, Any] = {}
        self._progress = Progress()
        self._objects: list[Any] = []
        self._size = 0
        self.pieces = Text()
        self.custom = False
        self.seen: set[str] = set()  # which of its own fields came, be it empty
        self.id: Any = None
        self.ids: set[Any] = set()
        self.index: int | None = None
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
        """May the fragment's arguments be the next of its own, or its own so far? Ask where it is not whole."""
        if not fragment.opens or self._seen_so_far().takes_object:
            return True
        return isinstance(fragment.arguments, str) and fragment.arguments.startswith(self.pieces[-1])

    def holds(self, arguments: Any) -> bool:
        """Are these all the arguments that it has?"""
        if not isinstance(arguments, str):
            return bool(self._objects) and bool(self._objects[-1] == arguments)
        return len(arguments) == self._size and arguments == "".join(self.pieces)

    def take(self, fragment: Fragment) -> None:
        raw, inner = fragment.raw, fragment.inner
        self.custom = self.custom or fragment.custom
        self.seen.update(raw.keys() & _OWN, inner.keys() & _INNER)
        if fragment.id is not None:
            self.id = self.id or fragment.id
            if fragment.id not in self.ids:
                self._merger.scale.weigh(2 * SCALAR)
                self.ids.add(fragment.id)
        elif self.id is None:
            self.id = raw.get("id")
        if fragment.number is not None:
            self.index = fragment.number
        kind = raw.get("type")
        if isinstance(kind, str) and not self.kind:
            self.kind = kind
        self._take_name(fragment.name)
        self._take_arguments(fragment.arguments)
        for fields, kept, own in ((raw, self._fields, _OWN), (inner, self._inner, _INNER)):
            for key in fields.keys() - own:
                self._merger.merge_field(kept, key, fields[key])

    def _take_name(self, name: str) -> None:
        """A name comes whole, and whole again with other fragments; in pieces; or so far with each of them."""
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
            raise Overfull(f"the stream holds a tool call whose name is longer than {_LONGEST_NAME} characters")

    def _take_arguments(self, arguments: Any) -> None:
        if isinstance(arguments, str):
            self.add_piece(arguments)
        elif arguments is not None:
            self._merger.scale.weigh(weight(arguments))
            self._objects.append(arguments)

    def add_piece(self, piece: str) -> None:
        """More of the arguments, and nothing else."""
        if piece:
            self._merger.scale.weigh(SCALAR)
            self._size += len(piece)
            self.pieces.append(piece)

    def is_rest_of(self, call: Call) -> bool:
        """Had that one no more than the name? Where each fragment has an id of its own, they are one."""
        return call.blank and (call.name, call.index) == (self.name, self.index)

    def may_be(self, call: Call) -> bool:
        """Have they one name, and no ids that tell them apart?"""
        return self.name == call.name != "" and not (self.ids and call.ids)

    def inside(self, doubts: list[str]) -> dict[str, Any]:
        """The function, or the custom tool: what it is called and with what."""
        if self.custom:
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

    def made(self, doubts: list[str]) -> dict[str, Any]:
        """The call as an unstreamed message has it."""
        made: dict[str, Any] = {"id": self.id} if "id" in self.seen else {}
        held = "custom" if self.custom else "function"
        if held in self.seen:
            made |= {"type": self.kind or held, held: self.inside(doubts)}
        elif self.kind:
            made["type"] = self.kind
        return {**made, **joined(self._fields)}


class Calls:
    """The tool calls of one message. A fragment is found its call by id, by index, or as the last one's next."""

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._calls: list[Call] = []
        self._by_id: dict[Any, Call] = {}
        self._by_index: dict[int, Call] = {}

    def add(self, fragments: list[Any], *, each_whole: bool = False) -> None:
        """Take in what one chunk has. ``each_whole``: they are calls, not fragments."""
        many = len(fragments) > 1
        for place, raw in enumerate(fragments):
            if isinstance(raw, dict) and not self._add_piece(raw):
                self._add(read_call(raw), place if many else None, each_whole=each_whole)

    def _add_piece(self, raw: dict[str, Any]) -> bool:
        """The common fragment, an index and more of the arguments: was it one?"""
        index, function = raw.get("index"), raw.get("function")
        if type(index) is not int or type(function) is not dict or len(function) != 1 or len(raw) != 2:
            return False
        call, piece = self._by_index.get(index), function.get("arguments")
        if call is None or type(piece) is not str:
            return False
        call.add_piece(piece)
        return True

    def _add(self, fragment: Fragment, place: int | None, *, each_whole: bool) -> None:
        call = None if each_whole else self._find(fragment, place)
        if call is None or self._begins(call, fragment):
            if len(self._calls) >= _MOST:
                raise Overfull(f"the stream holds more than {_MOST} tool calls")
            self._merger.scale.weigh(_WEIGHT)
            call = Call(self._merger)
            self._calls.append(call)
            if fragment.id is not None:
                self._by_id[fragment.id] = call
        elif fragment.id is not None:
            self._by_id.setdefault(fragment.id, call)
        call.take(fragment)
        if fragment.number is not None and (call is self._calls[-1] or fragment.number not in self._by_index):
            self._by_index[fragment.number] = call

    def _find(self, fragment: Fragment, place: int | None) -> Call | None:
        """The call that a fragment continues, if it does not begin one."""
        last = self._calls[-1] if self._calls else None
        at_index = self._by_index.get(fragment.number) if fragment.number is not None else None
        if fragment.id is not None and fragment.id in self._by_id:
            return at_index if at_index is not None and fragment.id in at_index.ids else self._by_id[fragment.id]
        if at_index is not None:
            return at_index
        nameless = not fragment.name and fragment.id is None
        if fragment.number is not None:  # a number that no call has: some servers count the fragments
            return last if last is not None and nameless and not fragment.blank and not last.whole else None
        if nameless and place is not None and place < len(self._calls):
            return self._calls[place]
        return last

    def _begins(self, call: Call, fragment: Fragment) -> bool:
        """Does it begin another call, though it would find this one?"""
        same = fragment.id is not None and fragment.id in call.ids
        other = fragment.id is not None and bool(call.ids) and not same
        if not fragment.name or not call.name:
            return other and call.whole and (bool(fragment.name) or not fragment.blank or fragment.is_head)
        moved = same and None not in (fragment.number, call.index) and fragment.number != call.index
        if call.custom or fragment.custom:
            return other or (moved and fragment.name != call.name)
        if moved:
            return call.whole or fragment.name != call.name
        if call.blank:
            return self._begins_after_name(call, fragment, same=same, other=other)
        if not call.whole:
            return self._begins_within(call, fragment, same=same)
        if fragment.name != call.name:
            return True
        if same:
            return not fragment.blank and not call.holds(fragment.arguments)
        return not (fragment.blank and (call.changed or call.again))

    @staticmethod
    def _begins_after_name(call: Call, fragment: Fragment, *, same: bool, other: bool) -> bool:
        """A name after a name, no arguments between: a call without any was whole, or this one's name goes on."""
        if same:
            return False
        if fragment.name != call.name:
            return other or fragment.is_head
        return fragment.blank and (other or fragment.number is None)

    @staticmethod
    def _begins_within(call: Call, fragment: Fragment, *, same: bool) -> bool:
        """A name while the arguments are not whole: the name comes with every fragment, or the call was cut."""
        if same:
            return False
        if fragment.name != call.name:
            return fragment.is_head
        return not call.goes_on_with(fragment)

    def made(self, doubts: list[str]) -> list[dict[str, Any]]:
        """The calls as an unstreamed message has them."""
        named = any(call.name for call in self._calls)
        calls: list[Call] = []
        for call in self._calls:
            if named and call.blank and not call.name:  # an empty fragment at the end
                continue
            if calls and call.changed and call.is_rest_of(calls[-1]):
                calls.pop()
            calls.append(call)
        made = [call.made(doubts) for call in calls]
        for at, call in enumerate(calls):
            if call.blank and call.again and not call.ids:
                doubts.append(_TWICE)
            if at and calls[at - 1].may_be(call) and made[at - 1] == made[at]:
                doubts.append(_TWICE if call.blank else _ALIKE)
        return made
