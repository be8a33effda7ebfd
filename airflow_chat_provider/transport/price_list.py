"""What an answer cost: as the server says, by the connection's prices, or by a public list of prices."""

from __future__ import annotations

import logging
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.answer.usage import read_usage, usage_in
from airflow_chat_provider.core.cost.prices import Rates, most_exact, stated

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings

_KNOWN = 1024  # names of models whose prices are kept: a server could send a new name with each answer
log = logging.getLogger(__name__)


class PriceList:
    """The prices that hold for one connection. Cheap to make; what it has found is kept for the next call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[str, Rates | None] = {}

    def rates(self, model: str) -> Rates | None:
        """The prices of a model; None if they are not known."""
        if model not in self._found:
            if len(self._found) >= _KNOWN:
                self._found.clear()
            self._found[model] = self._look_up(model)
        return self._found[model]

    def _look_up(self, model: str) -> Rates | None:
        return most_exact(model, self._settings.prices)

    def priced(self, reply: Reply, asked: Any = None) -> Reply:
        """The reply with what its attempts cost. ``asked``: the model of the request, for an answer that names none."""
        if reply.earlier:
            reply = reply._replace(earlier=tuple(self.priced(attempt, asked) for attempt in reply.earlier))
        cost = self.cost(reply.body, asked)
        return reply if cost is None else reply._replace(cost=cost, currency=self._settings.currency)

    def cost(self, body: Any, asked: Any = None) -> Decimal | None:
        """What the answer in a body cost; None if nobody knows. Never raises, whatever the server sent."""
        usage = usage_in(body)
        if usage is None:
            return None
        said = stated(usage)
        if said is not None:
            return said
        counts = read_usage(usage)
        if not counts:
            return None
        rates = self._of_answer(body.get("model"), asked)
        return None if rates is None else rates.cost(counts)

    def _of_answer(self, *models: Any) -> Rates | None:
        """The prices of the first of these models whose prices are known."""
        for model in models:
            if isinstance(model, str) and model and (rates := self.rates(model)) is not None:
                return rates
        _tell_unknown(next((model[:200] for model in models if isinstance(model, str) and model), "no name"))
        return None


@cache
def _tell_unknown(model: str) -> None:
    """Once in a process for each model."""
    log.debug("The price of model %s is not known", model)
