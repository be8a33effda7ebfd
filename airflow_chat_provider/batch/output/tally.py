"""The counts of a batch: rows, and the tokens that servers say their answers took. For the log and the manifest."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.output.first_failures import FirstFailures
from airflow_chat_provider.batch.output.lines import REUSED, SAME_AS
from airflow_chat_provider.core.answer.reply import tokens_of
from airflow_chat_provider.core.answer.usage import LARGEST, Spending, Usage
from airflow_chat_provider.core.cost.prices import shown, total
from airflow_chat_provider.core.errors import kind_of
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from airflow_chat_provider.core.errors import ChatCompletionError


NAMES = {REUSED: "reused", SAME_AS: "deduplicated"}
"""How the log speaks of rows that were answered without being asked for."""


@dataclass(eq=False, repr=False)
class Counts:
    """Rows, by how they ended. ``given``: those that were answered without being asked for, by REUSED and SAME_AS."""

    succeeded: int = 0
    incomplete: int = 0
    given: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def success(self, *, incomplete: bool, source: str | None) -> None:
        self.succeeded += 1
        self.incomplete += incomplete
        if source is not None:
            self.given[source] += 1


@dataclass(eq=False, repr=False)
class Tally:
    """The counts of one run. ``total`` is how many rows the batch has.

    ``came`` counts a row as soon as it is answered or has failed; ``stored`` and ``usage`` count it when its line
    survives a crash. ``first_failures`` has rows of earlier runs, too. ``models`` are those that answered, two at most.
    ``tokens`` and ``cost``, in ``currency``, are those of what came, in earlier runs too.
    ``earlier`` rows had a result when this run began, at ``began`` (seconds of a monotonic clock).
    """

    total: int
    came: Counts = field(default_factory=Counts)
    stored: Counts = field(default_factory=Counts)
    usage: Usage = field(default_factory=Usage)
    first_failures: FirstFailures = field(default_factory=FirstFailures)
    models: set[str] = field(default_factory=set)
    tokens: int = 0
    currency: str | None = None
    cost: Decimal | None = None
    earlier: int = 0
    began: float = 0.0
    _given_before: Counter[str] = field(default_factory=Counter, init=False)

    def begin(self, now: float) -> None:
        """Begin this run: what was counted so far comes from earlier runs, and is stored."""
        self.came = copy.deepcopy(self.stored)
        self.tokens, self.cost = int(self.usage.sums.get("total_tokens", 0)), self.usage.cost
        self.earlier, self.began = self.came.succeeded, now
        self._given_before = Counter(self.stored.given)

    def recorded(self, took: Spending, *, incomplete: bool, source: str | None = None) -> None:
        """Count a row whose result is stored. ``source``: of its answer, if that was there already."""
        self.stored.success(incomplete=incomplete, source=source)
        self.spent(took)

    def spent(self, took: Spending) -> None:
        """Count what is paid for and stored."""
        self.usage.take(took.usage, took.calls, took.cost)

    def success(self, took: Spending, *, incomplete: bool, source: str | None = None) -> Callable[[], None]:
        """Count an answered row. The function that it returns is to be called when the row's line is stored."""
        self.came.success(incomplete=incomplete, source=source)
        self._came(took)
        return lambda: self.recorded(took, incomplete=incomplete, source=source)

    def failure(self, error: ChatCompletionError, took: Spending) -> Callable[[], None]:
        """Count a failed row, in the same way."""
        kind = kind_of(error)
        self.came.failed[kind] += 1
        self._came(took)

        def stored() -> None:
            self.stored.failed[kind] += 1
            self.spent(took)

        return stored

    def _came(self, took: Spending) -> None:
        self.tokens += _tokens(took.usage)
        if took.cost is not None:
            self.cost = total(self.cost, took.cost)
        self.note_model(took.model)

    def note_model(self, model: str | None) -> None:
        """Note the model that an answer names, for the usage."""
        if model is not None and len(self.models) < 2:
            self.models.add(model)

    @property
    def given_now(self) -> Counter[str]:
        """How many rows this run has answered without asking, by REUSED and SAME_AS."""
        return self.stored.given - self._given_before

    @property
    def failures(self) -> int:
        return self.came.failed.total()

    @property
    def missing(self) -> int:
        """How many rows have no line yet."""
        return self.total - self.stored.succeeded - self.stored.failed.total()

    @property
    def how_far(self) -> str:
        """The rows so far, for an error."""
        failed = self.stored.failed.total()
        rows = [
            f"{self.stored.succeeded:,} of {plural(self.total, 'row')} answered",
            f"{failed:,} failed" if failed else "",
            f"{self.missing:,} missing",
        ]
        return ", ".join(filter(None, rows))

    def speed(self, now: float) -> float:
        """Rows per second of this run."""
        return (self.came.succeeded - self.earlier + self.failures) / max(now - self.began, 1e-3)

    def progress(self, now: float) -> str:
        """One line for the log."""
        through, speed = self.came.succeeded + self.failures, self.speed(now)
        left = (self.total - through) / speed if speed else 0.0  # seconds
        eta = "unknown" if not speed else f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
        ended = f"{self.failures:,} failed{self._given()}"
        return (
            f"{through:,} of {plural(self.total, 'row')} ({ended}), {speed:.1f} rows/s, ETA {eta}, "
            f"{plural(self.tokens, 'token')}{self._price()}"
        )

    def _given(self) -> str:
        return "".join(f", {count:,} {NAMES[source]}" for source, count in sorted(self.came.given.items()))

    def _price(self) -> str:
        return "" if self.cost is None else f", {shown(self.cost, self.currency)}"

    def manifest(self, now: float) -> dict[str, Any]:
        """The outcome so far, as far as it is stored, in plain values that XCom takes.

        ``usage`` is the XCom of that name: the sums of all rows in all runs, but the seconds of this run.
        """
        seconds = now - self.began
        model = next(iter(self.models)) if len(self.models) == 1 else None
        return {
            "total": self.total,
            "succeeded": self.stored.succeeded,
            "failed": dict(self.stored.failed),
            "missing": self.missing,
            "incomplete": self.stored.incomplete,
            "reused": self.stored.given[REUSED],
            "deduplicated": self.stored.given[SAME_AS],
            "first_failures": self.first_failures.to_dict(),
            "usage": self.usage.to_dict(
                model=model, seconds=seconds, errors=self.stored.failed, currency=self.currency
            ),
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.speed(now), 2),
        }


def _tokens(usage: Any) -> int:
    """The tokens for the log."""
    total = tokens_of(usage) or 0
    return total if 0 <= total <= LARGEST else 0
