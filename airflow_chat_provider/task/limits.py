"""The limits of a task, and the account that it keeps of what it has spent of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.errors import InvalidConnection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.cost.budget import Limits
    from airflow_chat_provider.core.cost.prices import Rates
    from airflow_chat_provider.durable.account import Account
    from airflow_chat_provider.durable.entry import Entry
    from airflow_chat_provider.task.arguments import ChatArguments
    from airflow_chat_provider.transport.price_list import PriceList
    from airflow_chat_provider.transport.session import Session


def limits_of(arguments: ChatArguments, session: Session, request: Mapping[str, Any]) -> Limits | None:
    """The task's limits, or else its connection's; None if there is none.

    Raises InvalidConnection if there is a limit of the cost, but no price of the request's model.
    """
    given = {"max_total_tokens": arguments.max_total_tokens, "max_cost": arguments.max_cost}
    settings = session.settings.override(**given)
    if settings.max_total_tokens is None and settings.max_cost is None:
        return None
    from airflow_chat_provider.core.cost.budget import Limits

    rates = None
    if settings.max_cost is not None:
        rates = priced(request.get("model"), session.prices, settings.conn_id)
    return Limits(settings.max_total_tokens, settings.max_cost, settings.currency, rates)


def priced(model: Any, prices: PriceList, conn_id: str) -> Rates:
    """The prices of a model whose cost is limited. Raises InvalidConnection if they are not known."""
    rates = prices.rates(model) if isinstance(model, str) else None
    if rates is None:
        of = f"the model {model[:200]!r}" if isinstance(model, str) else "a request that names no model"
        raise InvalidConnection(
            f"Set the extra 'prices' of connection {conn_id!r} for {of}, or limit max_total_tokens instead of "
            "max_cost: the price is not known. Nothing was sent",
            field="prices",
        )
    return rates


def account_of(context: Context, limits: Limits | None, replies: list[Reply], inside: str | None) -> Account | None:
    """The account of a task with limits; see ``Account.open``."""
    if limits is None:
        return None
    from airflow_chat_provider.durable.account import Account

    return Account.open(context, limits, replies, inside=inside)


def account_taken_up(context: Context, entry: Entry | None) -> Account | None:
    """The same for a task that was deferred, from what its trigger has left."""
    if entry is None or (budget := entry.budget) is None:
        return None
    from airflow_chat_provider.durable.account import Account

    return Account.resume(context, budget)
