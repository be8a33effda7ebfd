"""Tool calls from the fragments that a stream brings, in all the ways in which servers write them.

OpenAI numbers the calls. A call's first fragment has its index, id, type and name; the others have the index and more
of the arguments. Some servers leave out the index, or send 0 with all calls. Some send a new id, or the name, with
every fragment, or the name in pieces. Some send each call whole.
"""

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


_MOST = 4096  # calls of one message
_MOST_READ = 1 << 20  # characters of all arguments that are looked through at the end
_TRIES = 64  # calls that are tried as parts of one
_WEIGHT = 24  # of one call, in the units of ``reading.weight``

_TWICE = "Check the tool calls: the stream sent a name without arguments twice, which may be one call or two"
_ALIKE = "Check the tool calls: the stream sent the same call twice, which may be one call that was repeated, or two"


class ToolCalls:
    """The tool calls of one message. A fragment belongs to the call with its id or index, else to the last call."""

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._calls: list[ToolCall] = []
        self._by_id: dict[JSON, ToolCall] = {}
        self._by_index: dict[int, ToolCall] = {}

    def add(self, fragments: list[JSON], *, each_whole: bool = False) -> None:
        """Take in the fragments of one chunk. ``each_whole``: each is a complete call."""
        many = len(fragments) > 1
        for place, raw in enumerate(fragments):
            if isinstance(raw, dict) and not self._add_piece(raw):
                self._add(read_call(raw), place if many else None, each_whole=each_whole)

    def _add_piece(self, raw: JSONObject) -> bool:
        """Take in the most common fragment: an index and more of the arguments. Returns whether it is one."""
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
                raise Overfull(f"the stream has more than {_MOST} tool calls")
            self._merger.weigh(_WEIGHT)
            call = ToolCall(self._merger)
            self._calls.append(call)
            if fragment.id is not None:
                self._by_id[fragment.id] = call
        elif fragment.id is not None:
            self._by_id.setdefault(fragment.id, call)
        call.take(fragment)
        if fragment.number is not None and (call is self._calls[-1] or fragment.number not in self._by_index):
            self._by_index[fragment.number] = call

    def _find(self, fragment: Fragment, place: int | None) -> ToolCall | None:
        """The call that a fragment continues, unless it begins another one: see ``_begins``."""
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

    def _begins(self, call: ToolCall, fragment: Fragment) -> bool:
        """Does a fragment that seems to belong to this call begin another one?"""
        same = fragment.id is not None and fragment.id in call.ids
        other = fragment.id is not None and bool(call.ids) and not same
        if not fragment.name or not call.name:
            return other and call.whole and (bool(fragment.name) or not fragment.blank or fragment.is_head)
        moved = same and None not in (fragment.number, call.number) and fragment.number != call.number
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
            return not (fragment.blank or call.bare or call.holds(fragment.arguments))
        return not (fragment.blank and call.again and (call.changed or not other))

    @staticmethod
    def _begins_after_name(call: ToolCall, fragment: Fragment, *, same: bool, other: bool) -> bool:
        """A name follows a name, without arguments between: the call has none, or its name comes in pieces."""
        if same:
            return False
        if fragment.name != call.name:
            return other or fragment.is_head
        return fragment.blank and (other or fragment.number is None)

    @staticmethod
    def _begins_within(call: ToolCall, fragment: Fragment, *, same: bool) -> bool:
        """A name comes before the arguments are complete: it comes with every fragment, or the call was cut off."""
        if same:
            return False
        if fragment.name != call.name:
            return fragment.is_head
        return not call.goes_on_with(fragment)

    def made(self, doubts: list[str]) -> list[JSONObject]:
        """The calls as an unstreamed message has them."""
        calls = self._sorted_out(doubts)
        doubts += [_TWICE for call in calls if call.blank and call.again and not call.ids]
        plain = sum(call.size for call in calls) > _MOST_READ
        return [call.made(doubts, plain=plain) for call in calls]

    def _sorted_out(self, doubts: list[str]) -> list[ToolCall]:
        """Each call once: joins those of which a later fragment seemed to begin another call.

        If the calls have different indexes, the index decides. If all have 0 or none, a call that came twice may be one
        that the server repeated.
        """
        named = any(call.name for call in self._calls)
        numbered = len({call.number for call in self._calls} - {None}) > 1
        sorted_out: list[ToolCall] = []
        places: dict[int | None, int] = {}
        tries = _TRIES
        for call in self._calls:
            if named and call.blank and not call.name:  # an empty fragment at the end
                continue
            by_number = numbered and call.number is not None
            place = places.get(call.number, -1) if by_number else len(sorted_out) - 1
            before = sorted_out[place] if place >= 0 else None
            if before is not None and tries and before.is_one_with(call, numbered=by_number):
                sorted_out[place] = before.with_more(call)
                if call.name and not by_number and not before.blank:
                    doubts.append(_ALIKE)
            else:
                places[call.number] = len(sorted_out)
                sorted_out.append(call)
                if before is not None and tries and not by_number and before.may_be(call):
                    doubts.append(_ALIKE)
            tries -= before is not None and tries > 0
        return sorted_out
