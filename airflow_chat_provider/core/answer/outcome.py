"""What a task leaves behind: its XComs and its return value, or the error that it fails with."""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_chat_provider.core.answer.ending import doubts, incomplete, remedy
from airflow_chat_provider.core.answer.reply import Reply, incomplete_error, is_mistake, result, unreadable
from airflow_chat_provider.core.errors import ChatCompletionError, StatusError
from airflow_chat_provider.core.json_text.sanitize import sanitize
from airflow_chat_provider.core.messages.conversation import conversation, rewritten


class Delivery(NamedTuple):
    """The arguments of a task that say how its answer is delivered."""

    result_format: str = "raw"
    check_status: bool = True
    on_incomplete: str = "warn"
    push_messages: bool = True


class Outcome(NamedTuple):
    """``xcoms`` are pushed whether there is an ``error`` or not; ``value`` is the task's return value."""

    xcoms: dict[str, Any]
    value: Any = None
    error: Exception | None = None
    warnings: tuple[str, ...] = ()


def outcome(how: Delivery, request: dict[str, Any], reply: Reply, configuration: dict[str, Any]) -> Outcome:
    """What becomes of a safe reply: what was received and paid for is kept, whatever is wrong with it."""
    xcoms: dict[str, Any] = {}
    warnings: list[str] = []
    if reply.changes:
        warnings.append(f"The reply was changed so that XCom can keep it: {'; '.join(reply.changes)}")
    warnings.extend(reply.doubts)
    if reply.status is not None:
        xcoms |= {"body": reply.body, "status": reply.status}
    try:
        value = _value(how, request, reply, configuration, xcoms, warnings)
    except ChatCompletionError as error:
        return Outcome(xcoms, error=error, warnings=tuple(warnings))
    except BaseException as error:
        if not is_mistake(error):
            raise
        return Outcome(xcoms, error=unreadable(reply, error), warnings=tuple(warnings))  # the answer is paid for
    return Outcome(xcoms, value, warnings=tuple(warnings))


def _value(
    how: Delivery,
    request: dict[str, Any],
    reply: Reply,
    configuration: dict[str, Any],
    xcoms: dict[str, Any],
    warnings: list[str],
) -> Any:
    if reply.error is not None and (how.check_status or not _is_refusal(reply)):
        raise reply.error
    xcoms["configuration"] = sanitize(configuration)[0]
    if reply.error is not None:
        return result(reply, "raw") if how.result_format == "raw" else None
    if how.push_messages:
        turns = conversation(request, reply.message, configuration.get("base_url"))
        warnings.extend(rewritten(reply.message) if how.result_format != "tool_calls" else ())  # which tells by itself
        xcoms["messages"] = sanitize(turns)[0]  # a prompt may hold what XCom cannot, too
    reason = None if how.on_incomplete == "ignore" else incomplete(reply.body)
    if reason is not None and how.on_incomplete == "fail":
        raise incomplete_error(reply, reason)
    if reason is not None:
        warnings.append(f"{remedy(reply.body)}: {reason}")
    warnings.extend(doubts(reply.body))
    value = result(reply, how.result_format, request, warnings)
    return sanitize(value)[0] if how.result_format in ("json", "tool_calls") else value


def _is_refusal(reply: Reply) -> bool:
    """Is it a status that a caller may want as data? Not a 2xx whose body is an error: it would look like an answer."""
    return isinstance(reply.error, StatusError) and not 200 <= (reply.status or 0) < 300
