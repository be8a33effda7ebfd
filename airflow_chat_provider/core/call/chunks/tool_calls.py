"""Tool calls from the fragments that a stream brings, in all the ways in which servers write them.

OpenAI numbers the calls. A call's first fragment has its index, id, type and name; the others have the index and more
of the arguments. Some servers leave out the index, or send 0 with all calls. Some send a new id, or the name, with
every fragment, or the name in pieces. Some send each call whole.
"""

from __future__ import annotations

from airflow_chat_provider.core.call.chunks.pieces import Merger, Overfull
from airflow_chat_provider.core.call.chunks.tool_call import Fragment, ToolCall, read_call
from airflow_chat_provider.core.types import JSON, JSONObject

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
