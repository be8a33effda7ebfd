"""One tool call of a stream, as far as its fragments came."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.call.chunks.arguments import Progress, arguments_text, come_together, parses
from airflow_chat_provider.core.call.chunks.fragment import INNER, OWN, Fragment
from airflow_chat_provider.core.call.chunks.pieces import Merger, Overfull, Scale, Text, joined
from airflow_chat_provider.core.json_text.reading import SCALAR, weight

_LONGEST_NAME = 4096  # characters
_BARE = 16  # characters, blanks included

_CUT = (
    "Check the tool calls: the fragments of one had different ids in the stream, and together they are no JSON object"
)
_RENAMED = (
    "Check the tool calls: the name of one changed in the stream after its arguments had begun; the first was kept"
)
_ODD = "Check the arguments of the tool calls: one's came in the stream in more than one way, and they do not agree"


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
        "kind",
        "name",
        "number",
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
        self.number: int | None = None
        self.kind = ""
        self.name = ""
        self.again = self.renamed = False

    @property
    def size(self) -> int:
        """The characters of its arguments."""
        return self._size

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
        if self.pieces and arguments == self.pieces[-1]:
            return True
        return len(arguments) == self._size and arguments == "".join(self.pieces)

    def take(self, fragment: Fragment) -> None:
        raw, inner = fragment.raw, fragment.inner
        self.custom = self.custom or fragment.custom
        self.seen.update(raw.keys() & OWN, inner.keys() & INNER)
        if fragment.id is not None:
            self.id = self.id or fragment.id
            if fragment.id not in self.ids:
                self._merger.scale.weigh(2 * SCALAR)
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
        for fields, kept, own in ((raw, self._fields, OWN), (inner, self._inner, INNER)):
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

    def is_one_with(self, call: Call, *, numbered: bool) -> bool:
        """Is that one, which seemed to begin anew, more of this? ``numbered``: their index says so."""
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
        """Are braces all of its arguments? Some servers send them first, whatever comes."""
        return self._size < _BARE and not self._objects and "".join(self.pieces).split() == ["{}"]

    def may_be(self, call: Call) -> bool:
        """Could that one be this once more, or the rest of it?"""
        return self.name == call.name and (self.blank or self.bare or call.blank or self.is_like(call))

    def is_like(self, call: Call) -> bool:
        """Have they one name, and the same arguments?"""
        if self.name != call.name or bool(self._objects) or bool(call._objects):
            return self.name == call.name and self._objects == call._objects
        return call.holds("".join(self.pieces)) or self.holds("".join(call.pieces))

    def with_more(self, call: Call) -> Call:
        """Both as one."""
        made = Call(Merger(Scale.free()))
        made._fields, made._inner = {**call._fields, **self._fields}, {**call._inner, **self._inner}
        made._objects, made.pieces = [*self._objects, *call._objects], Text([*self.pieces, *call.pieces])
        made.seen, made.ids, made.number = self.seen | call.seen, self.ids | call.ids, self.number
        made.custom, made.id, made.kind = self.custom or call.custom, self.id or call.id, self.kind or call.kind
        made.name = self.name if self.name == call.name else self.name + call.name
        made._size = self._size + call._size
        made.again, made.renamed = True, self.renamed or call.renamed
        return made

    def inside(self, doubts: list[str], *, plain: bool = False) -> dict[str, Any]:
        """The function, or the custom tool: what it is called and with what. ``plain``: its pieces, just joined."""
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

    def made(self, doubts: list[str], *, plain: bool) -> dict[str, Any]:
        """The call as an unstreamed message has it."""
        made: dict[str, Any] = {"id": self.id} if "id" in self.seen else {}
        held = "custom" if self.custom else "function"
        if held in self.seen:
            made |= {"type": self.kind or held, held: self.inside(doubts, plain=plain)}
        elif self.kind:
            made["type"] = self.kind
        return {**made, **joined(self._fields)}
