"""What a task instance has spent of its limits, in all of its tries.

Airflow 3.3 keeps that in the task state store, beside the ledger. Before, each try has limits of its own. Clearing a
task asks anew on purpose, and so does its account: what was spent before no longer counts.

An attempt is noted before it is made, as what it is guessed to take, and again when its answer says what it took. So
an attempt whose worker was killed counts as the guess. Tasks without limits note nothing.

An operator that another task executes has an account of its own there, for all of its executions.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_chat_provider.airflow_api.compat import reschedules
from airflow_chat_provider.core.call.meter import spent_in
from airflow_chat_provider.core.cost.budget import NOTHING, Amount, Budget, Limits
from airflow_chat_provider.core.errors import BudgetExceeded, TransportError
from airflow_chat_provider.durable.ledger import Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.cost.estimate import Estimate
    from airflow_chat_provider.core.types import JSONObject
    from airflow_chat_provider.durable.ledger import Context

KEY = "chat_budget"
_accounts: dict[tuple[object, ...], Account] = {}
"""Those of the task that this process runs."""


class Account:
    """A Budget that outlives a try. Threads of a task may share it: each checks and reserves under one lock."""

    def __init__(self, limits: Limits, place: Place, spent: Amount = NOTHING) -> None:
        self._budget = Budget(limits, spent)
        self._place = place
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, context: Context, limits: Limits, replies: Iterable[Reply] = (), *, inside: str | None = None
    ) -> Self:
        """For a try that has sent nothing yet; its earlier executions and tries count.

        ``replies``: those that an earlier try has got. They are counted if the task had no limit then. ``inside``: the
        task_id of an operator that another task executes. Raises TransportError if Airflow cannot say what was spent.
        """
        place = _place(context, inside)
        known = _accounts.get(_name(context, inside))
        if isinstance(known, cls):
            known.allow(limits)
            return known
        try:
            notes = place.notes()
        except Exception as error:  # noqa: BLE001 - each backend has errors of its own
            raise TransportError(
                f"Repair Airflow's task state store and try again, or remove the limit: it cannot be read "
                f"({type(error).__name__}), so nobody knows what earlier tries have spent. Nothing was sent",
                sent=False,
            ) from None
        return _registered(cls(limits, place, _read(notes, replies)), _name(context, inside))

    @classmethod
    def resume(cls, context: Context, budget: Budget) -> Self:
        """For a try that was deferred: ``budget`` is what the trigger has left of it."""
        account = _registered(cls(budget.limits, _place(context), budget.committed), _name(context, None))
        account.note()
        return account

    def allow(self, limits: Limits) -> None:
        """These limits hold from now on, for what was spent before, too."""
        self._budget.limits = limits

    @property
    def limits(self) -> JSONObject:
        """For the trigger."""
        return self._budget.limits.to_dict()

    def coming(self, surely: Estimate) -> Amount:
        """See ``Purse`` in core/call/meter.py; the next three, too."""
        return self._budget.coming(surely)

    def check(self, coming: Amount) -> None:
        with self._lock:
            self._budget.check(coming)

    def reserve(self, coming: Amount) -> None:
        with self._lock:
            self._budget.reserve(coming)
            self.note()

    def settle(self, reserved: Amount, took: Amount) -> None:
        with self._lock:
            self._budget.settle(reserved, took)
            self.note()

    def refusal(self, surely: Estimate) -> BudgetExceeded | None:
        """Why a request must not be sent; None if it may be."""
        try:
            self.check(self.coming(surely))
        except BudgetExceeded as error:
            return error
        return None

    def hand_over(self, surely: Estimate) -> Amount:
        """A trigger is about to make a call, and only a worker reaches the store: returns what was spent before.

        If this try ends before a worker has taken up what the trigger left, the call counts as the guess.
        """
        with self._lock:
            spent = self._budget.committed
            self.note(spent.plus(self.coming(surely)))
        return spent

    def note(self, spent: Amount | None = None) -> None:
        """Note what is spent if another try may read it."""
        place = self._place
        if place.store is not None and place.ti is not None and place.may_retry(after_answer=False):
            place.write(**(spent or self._budget.committed).to_dict())


_Account = TypeVar("_Account", bound=Account)


def _place(context: Context, inside: str | None = None) -> Place:
    return Place(context, "", () if inside is None else (inside,), KEY, "what this task has spent")


def _name(context: Context, inside: str | None) -> tuple[object, ...]:
    ti: Any = context.get("ti")
    return getattr(ti, "id", None), getattr(ti, "try_number", None), reschedules(context), inside


def _registered(account: _Account, name: tuple[object, ...]) -> _Account:
    if name[0] is not None:
        _accounts[name] = account
    return account


def _read(notes: JSONObject, replies: Iterable[Reply]) -> Amount:
    """What was spent, by the notes; by the replies if there are none, or if somebody has changed them."""
    try:
        return Amount.from_dict(notes)
    except ValueError:
        return spent_in(replies)
