"""What an answer cost: as the server says, by the connection's prices, or by a public list of prices."""

from __future__ import annotations

import logging
from collections.abc import Generator
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_chat_provider.core.answer.usage import read_usage, usage_in
from airflow_chat_provider.core.cost.prices import Pricer, Rates, billed, most_exact, stated
from airflow_chat_provider.core.server.scrub import printable
from airflow_chat_provider.transport.aside import aside
from airflow_chat_provider.transport.public_prices import PublicPrices, other_counts

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings

_KNOWN = 1024  # names of models whose prices are kept: a server could send a new name with each answer
_LONGEST_NAME = 200  # characters of a model's name in the log
log = logging.getLogger(__name__)
_Step = TypeVar("_Step")
_Sent = TypeVar("_Sent")
Names = tuple[str, ...]


class PriceList:
    """The prices that hold for one connection. Cheap to make; what it has found is kept for the next call.

    What a server says counts before the connection's ``prices``, and these before the public ones.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[Names, Pricer | None] = {}
        self._public = PublicPrices(settings.base_url) if settings.currency == "USD" else None

    def rates(self, model: str) -> Rates | None:
        """The prices of a model, for an estimate of what a request costs; None if they are not known."""
        found = self._of_any((model,))
        return None if found is None else found.rates

    def priced(self, reply: Reply, asked: Any = None) -> Reply:
        """The reply with what its attempts cost. ``asked``: the model of the request, for an answer that names none."""
        if reply.earlier:
            reply = reply._replace(earlier=tuple(self.priced(attempt, asked) for attempt in reply.earlier))
        cost = self.cost(reply.body, asked)
        return reply if cost is None else reply._replace(cost=cost, currency=self._settings.currency)

    async def apriced(self, reply: Reply, asked: Any = None) -> Reply:
        """``priced`` for an event loop, which is not held up while the public prices are loaded."""
        if self._has_to_load(reply, asked):
            return await aside(self.priced, reply, asked)
        return self.priced(reply, asked)

    def pricing(self, steps: Generator[_Step, _Sent, Reply], asked: Any = None) -> Generator[_Step, _Sent, Reply]:
        """The same exchange, whose reply is priced."""
        return self.priced((yield from steps), asked)

    async def get_ready(self, asked: Any) -> None:
        """Load what prices the answers of a model, for whoever cannot wait for it once an answer is there."""
        names = _names(None, asked)
        if names and self._public is not None and self._public.is_unread and self._own(names) is None:
            await aside(self._of_any, names)

    def cost(self, body: Any, asked: Any = None) -> Decimal | None:
        """What the answer in a body cost; None if nobody knows. Never raises, whatever the server sent."""
        usage = usage_in(body)
        if usage is None:
            return None
        said = stated(usage)
        if said is not None:
            return said
        counts = billed(read_usage(usage))
        if not counts:
            return None
        names = _names(body, asked)
        pricer = self._of_any(names)
        if isinstance(pricer, Rates):
            return pricer.cost(counts)
        cost = None if pricer is None else pricer.cost({**counts, **other_counts(body)})
        if cost is None and {"input_tokens", "output_tokens"} <= counts.keys():
            self._tell_unknown(names)
        return cost

    def _has_to_load(self, reply: Reply, asked: Any) -> bool:
        if self._public is None or not self._public.is_unread:
            return False
        for attempt in (reply, *reply.earlier):
            usage = usage_in(attempt.body)
            if usage is not None and stated(usage) is None and self._own(_names(attempt.body, asked)) is None:
                return True
        return False

    def _of_any(self, names: Names) -> Pricer | None:
        """The prices of the first of these models that has some. Public ones hold for none that has the user's own."""
        try:
            return self._found[names]
        except KeyError:
            pass
        found: Pricer | None = self._own(names)
        if found is None and self._public is not None:
            found = next(filter(None, map(self._public.find, names)), None)
        if len(self._found) >= _KNOWN:  # threads may share this: what another one clears is looked up again
            self._found.clear()
        self._found[names] = found
        return found

    def _own(self, names: Names) -> Rates | None:
        prices = self._settings.prices
        return next(filter(None, (most_exact(name, prices) for name in names)), None) if prices else None

    def _tell_unknown(self, names: Names) -> None:
        """A warning for whoever wants to know what calls cost."""
        wanted = bool(self._settings.prices) or self._settings.max_cost is not None
        model = printable(names[0][:_LONGEST_NAME]) if names else "without a name"
        _tell_once(logging.WARNING if wanted else logging.DEBUG, model, self._settings.conn_id)


def _names(body: Any, asked: Any) -> Names:
    """The model that an answer names, and the one that was asked for."""
    answered = body.get("model") if isinstance(body, dict) else None
    return tuple(name for name in (answered, asked) if isinstance(name, str) and name)


@lru_cache(_KNOWN)
def _tell_once(level: int, model: str, conn_id: str) -> None:
    """Once in a process."""
    log.log(
        level,
        "Add model %s to the extra 'prices' of connection %r: what it costs is not known, so its cost is null",
        model,
        conn_id,
    )
