"""The plan that a dry run of a batch returns, and how it tells a reader of it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.token_count import BYTES
from airflow_chat_provider.core.cost.prices import number, shown, total
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.spelling import plural
from airflow_chat_provider.task import dry_run

if TYPE_CHECKING:
    from airflow_chat_provider.batch.preflight import Preflight

_SHOWN = 3  # models in a sentence


def plan(look: Preflight) -> dict[str, Any]:
    """What a real run would do, in plain values that XCom takes."""
    engine, bill = look.job.engine, look.bill
    failed = look.failed.total()
    found = {
        "dry_run": True,
        "rows": engine.tally.total,
        "answered": engine.tally.earlier,
        "reused": look.reused,
        "equal": look.equal,
        "to_send": look.to_send,
        "failed": dict(look.failed.most_common()),
        "first_failures": look.first_failures.to_dict(),
        "would_fail": failed > engine.max_failures,
        "input_tokens": bill.input_tokens,
        "output_tokens": bill.output_tokens,
        "counted_by": sorted({by for by, _ in look.counted_by}),
        "is_guess": not all(is_exact for _, is_exact in look.counted_by),
        "cost": {
            "least": number(bill.least()),
            "most": number(bill.most()),
            "currency": engine.settings.currency,
        },
        "limits": _limits(look),
        "notes": list(_notes(look)),
        "first_request": look.first_request,
    }
    return dict(sanitize(found)[0])


def _limits(look: Preflight) -> dict[str, dict[str, Any]]:
    """Each limit with what earlier tries have spent of it. ``fits``: None if that depends on the answers."""
    settings, tally, bill = look.job.engine.settings, look.job.engine.tally, look.bill
    most_tokens, most_cost = settings.max_total_tokens, settings.max_cost
    found: dict[str, dict[str, Any]] = {}
    if most_tokens is not None:
        least, output = tally.tokens + bill.input_tokens, bill.output_tokens
        fits = _fits(most_tokens, least, None if output is None else least + output)
        found["max_total_tokens"] = {"limit": most_tokens, "spent": tally.tokens, "fits": fits}
    if most_cost is not None:
        costs = [None if cost is None else total(tally.cost, cost) for cost in (bill.least(), bill.most())]
        found["max_cost"] = {"limit": number(most_cost), "spent": number(tally.cost), "fits": _fits(most_cost, *costs)}
    return found


def _fits(limit: Decimal | int, least: Decimal | int | None, most: Decimal | int | None) -> bool | None:
    if least is not None and least > limit:
        return False
    return True if most is not None and most <= limit else None


def _notes(look: Preflight) -> Iterator[str]:
    """What has to be said of the numbers."""
    engine, bill, to_send = look.job.engine, look.bill, look.to_send
    yield from _guesses(look)
    if look.files:
        yield f"Not counted: the tokens of {plural(look.files, 'attachment')} (pictures, sounds and files)"
    if bill.unlimited:
        rows = "No request sets" if bill.unlimited == to_send else f"{bill.unlimited:,} of the requests set"
        limit = "a limit" if bill.unlimited == to_send else "no limit"
        yield (f"{rows} {limit} to its answer (max_completion_tokens), so nobody knows the most that the batch takes")
    if unpriced := bill.unpriced:
        names = ", ".join(name[:100] for name in unpriced[:_SHOWN])
        more = f" and {len(unpriced) - _SHOWN:,} more" if len(unpriced) > _SHOWN else ""
        conn_id = engine.settings.conn_id
        yield f"Add prices to the extra 'prices' of connection {conn_id!r}: those of {names}{more} are not known"
    if look.terms.batch_api and bill.least():
        yield f"The cost is that of the batch API: {engine.settings.batch_discount:.0%} less (batch_discount)"
    if bill.has_cached_price:
        yield "A prompt that the server has in its cache costs less: the cost has all input at its full price"
    if engine.wanted.is_checked and engine.wanted.retries and to_send:
        yield "An answer that does not fit is asked for again (output_retries): such calls are not counted"


def _guesses(look: Preflight) -> Iterator[str]:
    guessed = [by for by, is_exact in look.counted_by if not is_exact]
    if BYTES in guessed:
        yield (
            "Input tokens are a guess, a token for every four bytes: for a count, install the extra [tokens], and have "
            "tiktoken's encoding on this machine"
        )
    if others := [by for by in guessed if by != BYTES]:
        yield f"Input tokens are a guess by {' and '.join(others)}, which may not be the model's own encoding"


def told(plan: dict[str, Any], max_failures: object) -> str:
    """A plan for the log, with the first request as a command."""
    lines = ["A dry run: nothing was sent, and nothing was written", _rows(plan), *_failures(plan, max_failures)]
    if plan["to_send"]:
        lines += [_tokens(plan), _cost(plan), *_limits_told(plan)]
    lines += plan["notes"]
    text = "".join(f"# {line}\n" for line in lines)
    first = plan["first_request"]
    return text.rstrip("\n") if first is None else f"{text}# The first request:\n{dry_run.told(first)}"


def _rows(plan: dict[str, Any]) -> str:
    equal = f" ({plan['equal']:,} repeat an earlier row's request)" if plan["equal"] else ""
    counts = [
        f"{plan['answered']:,} have an answer" if plan["answered"] else "",
        f"{plan['reused']:,} would take an earlier batch's answer" if plan["reused"] else "",
        f"{plan['to_send']:,} would be sent{equal}",
        f"{sum(plan['failed'].values()):,} would fail",
    ]
    return f"{plural(plan['rows'], 'row')}: {', '.join(filter(None, counts))}"


def _failures(plan: dict[str, Any], max_failures: object) -> Iterator[str]:
    for kind, count in plan["failed"].items():
        yield f"{kind}: {plural(count, 'row')}"
        for row in plan["first_failures"].get(kind, ()):
            yield f"  {' '.join(row['message'].split())}"
    if plan["would_fail"]:
        yield f"The task would fail: more rows would fail than max_failures allows ({max_failures})"


def _tokens(plan: dict[str, Any]) -> str:
    output = plan["output_tokens"]
    about = "about " if plan["is_guess"] else ""
    most = "of unknown length" if output is None else f"at most {plural(output, 'token')}"
    return f"Input: {about}{plural(plan['input_tokens'], 'token')} ({', '.join(plan['counted_by'])}). Answers: {most}"


def _cost(plan: dict[str, Any]) -> str:
    least, most, currency = plan["cost"].values()
    if least is None:
        return "Cost: unknown"
    if most is None:
        return f"Cost: {shown(Decimal(str(least)), currency)} for the input, and the answers"
    return f"Cost: {shown(Decimal(str(least)), currency)} to {shown(Decimal(str(most)), currency)}"


def _limits_told(plan: dict[str, Any]) -> Iterator[str]:
    says = {True: "it fits", False: "it does not fit", None: "it may not fit"}
    for name, limit in plan["limits"].items():
        spent = f", of which {limit['spent']} are spent" if limit["spent"] else ""
        yield f"{name} {limit['limit']}{spent}: {says[limit['fits']]}"
