"""The orders of a batch that goes through a vendor's batch API: what is under way there, as the folder says.

They lie in the folder's ``batch.json``, so that whoever opens the folder next can go on, and submits no row twice.
Each state is written before the step that it announces.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from airflow_chat_provider.batch.files import file_error
from airflow_chat_provider.batch.output.store import IDENTITY
from airflow_chat_provider.core.cost.budget import NOTHING, Amount
from airflow_chat_provider.core.cost.prices import read_amount
from airflow_chat_provider.core.errors import ChatCompletionError
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from airflow_chat_provider.batch.output.store import Store

log = logging.getLogger(__name__)

State: TypeAlias = Literal["uploading", "uploaded", "starting", "started", "fetched"]
JOBS, PLAN, DROPPED = "jobs", "plan", "dropped"
"""The keys of ``batch.json``: the orders, how far this try of the task is, and batches whose answers nobody wants."""
_KEPT: dict[str, Any] = {
    "planned": bool,
    "began": int | float,
    "earlier": int,
    "expires": int | float,
    "failed": dict,
    "reasons": dict,
    "error": dict,
    "final": bool,
}


@dataclass(eq=False)
class Order:
    """Some of the rows, as one batch of the vendor's. ``file`` and ``batch`` are the vendor's ids.

    ``rows`` are ranges of indices, both ends included. ``starts`` is how often it was started: more than once if the
    vendor's limits left no room for it. ``held_since``: since when they do not, in epoch seconds. ``model`` is that of
    all of its requests; empty if they have several, or none.
    """

    number: int
    state: State
    rows: list[list[int]] = field(default_factory=list)
    requests: int = 0
    file: str | None = None
    batch: str | None = None
    status: str | None = None
    starts: int = 0
    held_since: float | None = None
    model: str | None = None
    expected: list[Any] = field(default_factory=list)

    @property
    def is_under_way(self) -> bool:
        """May the vendor be working on it, or be about to?"""
        return self.state in ("starting", "started")

    def indices(self) -> Iterator[int]:
        """The indices of its rows, in the order of the lines in its file."""
        for first, last in self.rows:
            yield from range(first, last + 1)

    def row_of(self, line: int) -> int | None:
        """The index of the row on a line of its file, counted from 1."""
        for first, last in self.rows:
            if 0 < line <= last - first + 1:
                return first + line - 1
            line -= last - first + 1
        return None

    def add(self, index: int, model: object) -> None:
        """Add a row, whose index is above those of the others, and whose request names this model."""
        named = model if isinstance(model, str) else ""
        self.model = named if self.model in (None, named) else ""
        if self.rows and self.rows[-1][1] == index - 1:
            self.rows[-1][1] = index
        else:
            self.rows.append([index, index])
        self.requests += 1

    def expect(self, sure: Amount, likely: Amount) -> None:
        """Add to what its requests are sure to take, and to what they are likely to take if nothing is known yet."""
        both = self.sure.plus(sure), self.unlimited.plus(likely)
        self.expected = [[amount.tokens, str(amount.cost)] for amount in both]

    @property
    def sure(self) -> Amount:
        """What its requests are sure to take, where there are limits."""
        return _amount(self.expected, 0)

    @property
    def unlimited(self) -> Amount:
        """The same with a guess at answers that have no limit."""
        return _amount(self.expected, 1)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file; of a fetched one, not its rows."""
        found = {name: value for name, value in vars(self).items() if value not in (None, 0, [])}
        if self.state == "fetched":
            found.pop("rows", None)
        return found

    @classmethod
    def from_dict(cls, value: Any) -> Order | None:
        """Read one; None for anything else."""
        if not isinstance(value, dict) or value.keys() - cls.__dataclass_fields__.keys():
            return None
        rows = value.get("rows", [])
        right = (
            type(value.get("number")) is int
            and value.get("state") in get_args(State)
            and isinstance(rows, list)
            and all(_is_range(one) for one in rows)
            and all(isinstance(value.get(name), str | None) for name in ("file", "batch", "status", "model"))
            and all(type(value.get(name, 0)) is int for name in ("requests", "starts"))
            and isinstance(value.get("expected", []), list)
            and isinstance(value.get("held_since"), float | int | None)
            # With other rows than were sent, some would be asked for twice.
            and (value["state"] == "fetched" or value.get("requests") == sum(last - first + 1 for first, last in rows))
        )
        if not right or (value["state"] == "started" and not value.get("batch")):
            return None
        if value["state"] in ("uploaded", "starting") and not value.get("file"):
            return None
        return cls(**value)


def _amount(expected: list[Any], place: int) -> Amount:
    """One of the two amounts that an order keeps; nothing where somebody has changed them."""
    try:
        tokens, cost = expected[place]
    except (IndexError, TypeError, ValueError):
        return NOTHING
    return Amount(tokens if type(tokens) is int and tokens >= 0 else 0, read_amount(cost) or Decimal(0))


def _plan(value: Any) -> dict[str, Any]:
    """What the tries of a task keep, as far as it is of the form in which they keep it."""
    plan = value if isinstance(value, dict) else {}
    found = {name: plan[name] for name, kind in _KEPT.items() if isinstance(plan.get(name), kind)}
    if "failed" in found:
        found["failed"] = {kind: count for kind, count in found["failed"].items() if type(count) is int}
    return found


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and list(map(type, value)) == [int, int] and 0 <= value[0] <= value[1]


class Wait(NamedTuple):
    """What has to happen before there is work again: all these batches end, or (``any_one``) one of them.

    ``at_most``: seconds after which there is work again in any case. ``expires``: when the task's time is over.
    """

    batches: list[str]
    any_one: bool = False
    at_most: float | None = None
    expires: float | None = None


class Orders:
    """The orders of a folder. ``plan`` is what the tries of a task keep there beside them; ``save`` writes both."""

    def __init__(self, store: Store, identity: dict[str, Any]) -> None:
        """Raises InvalidRequest where somebody has written something else into the file."""
        self._store = store
        self._identity = identity
        self.all = _read(store, identity)
        self.plan = _plan(identity.get(PLAN))

    def __iter__(self) -> Iterator[Order]:
        return iter(self.all)

    @property
    def unfinished(self) -> list[Order]:
        """Those whose answers are still to come, or to be fetched."""
        return [order for order in self.all if order.state != "fetched"]

    @property
    def under_way(self) -> list[Order]:
        return [order for order in self.all if order.is_under_way]

    @property
    def dropped(self) -> list[str]:
        """The ids of batches that were under way when the output was restarted for another input."""
        found = self._identity.get(DROPPED)
        return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []

    @property
    def error(self) -> ChatCompletionError | None:
        """Why this try starts nothing more, if it does not."""
        kept = self.plan.get("error")
        if not isinstance(kept, dict) or not kept.get("message") or not isinstance(kept["message"], str):
            return None
        error = ChatCompletionError.from_dict(kept)
        error.final = self.plan.get("final") is True
        return error

    def keep_error(self, error: ChatCompletionError) -> None:
        """Keep why this try starts nothing more, for whoever goes on with it."""
        self.plan["error"], self.plan["final"] = {**error.to_dict(), "body": None}, error.final

    def forget_dropped(self) -> None:
        self._identity.pop(DROPPED, None)

    def new(self) -> Order:
        """An order that is not among them yet."""
        return Order(max((order.number for order in self.all), default=0) + 1, "uploading")

    def mark(self, order: Order) -> str:
        """The name by which the vendor's list shows an order as ours."""
        return f"{self._identity['id']}-{order.number}"

    def put(self, order: Order, state: State) -> None:
        """Note that an order is in a state, before the step that this announces."""
        order.state = state
        if order not in self.all:
            self.all.append(order)
        self.save()

    def remove(self, orders: Iterable[Order]) -> None:
        gone = list(orders)
        self.all = [order for order in self.all if order not in gone]

    def save(self) -> None:
        found = {**self._identity, JOBS: [order.to_dict() for order in self.all], PLAN: self.plan}
        self._store.put(IDENTITY, json.dumps(found).encode())


def _read(store: Store, identity: dict[str, Any]) -> list[Order]:
    jobs = identity.get(JOBS, [])
    orders = [Order.from_dict(one) for one in jobs] if isinstance(jobs, list) else [None]
    found = [order for order in orders if order is not None]
    if len(found) < len(orders) or len({order.number for order in found}) < len(found):
        raise file_error("output", store.where(IDENTITY), f"has something in {JOBS!r} that no batch wrote")
    return found


def leave_to_calls(store: Store, identity: dict[str, Any]) -> None:
    """Make sure that a run which calls for each row asks for none that the batch API still answers.

    What was not started there is not started any more. Raises ChatCompletionError where something is under way.
    """
    found = Orders(store, identity)
    if found.dropped:
        log.warning("Cancel at the vendor what was under way for another input: %s", ", ".join(found.dropped))
        found.forget_dropped()
        found.save()
    orders = found.under_way
    if not orders:
        if found.unfinished:
            found.remove(found.unfinished)
            found.save()
        return
    rows = plural(sum(order.requests for order in orders), "row")
    names = ", ".join(filter(None, (order.batch for order in orders[:5])))
    error = ChatCompletionError(
        f"Run it with via='batch_api' first, which fetches what the batch API still answers: {rows} of this batch are "
        f"under way there ({plural(len(orders), 'order')}{': ' if names else ''}{names}), and would be paid for twice. "
        f"Whoever knows that they are not under way can remove their entries from {JOBS!r} in {store.where(IDENTITY)}"
    )
    error.final = True
    raise error


def dropped_by_restart(identity: dict[str, Any] | None) -> dict[str, Any]:
    """What the identity of a restarted output keeps of the old one: the batches that are to be cancelled."""
    jobs = (identity or {}).get(JOBS)
    found = [order for order in map(Order.from_dict, jobs if isinstance(jobs, list) else ()) if order is not None]
    names = [order.batch for order in found if order.batch and order.is_under_way]
    before = (identity or {}).get(DROPPED)
    names = [*(before if isinstance(before, list) else ()), *names]
    return {DROPPED: names} if names else {}
