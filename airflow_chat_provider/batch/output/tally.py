"""The counts of a batch: what is logged while it runs, and its manifest."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from airflow_chat_provider.batch.output.usage import MOST, add, counted
from airflow_chat_provider.core.answer.reply import tokens_of
from airflow_chat_provider.core.errors import ChatCompletionError

_DOUBTS = 20  # different ones; the rest of a batch says nothing new

log = logging.getLogger(__name__)


class Counts:
    """Rows by what became of them."""

    def __init__(self) -> None:
        self.succeeded = 0
        self.incomplete = 0
        self.failed: Counter[str] = Counter()

    def success(self, *, incomplete: bool) -> None:
        self.succeeded += 1
        self.incomplete += incomplete


class Tally:
    """``total`` rows are wanted; ``earlier`` of them had a result when this run began, ``began`` seconds.

    ``came`` counts a row as soon as it is through, ``stored`` and ``usage`` when its line survives a crash.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.came = Counts()
        self.stored = Counts()
        self.usage: dict[str, Any] = {}
        self.tokens = 0
        self.earlier = 0
        self.began = 0.0
        self._doubts: set[str] = set()

    def begin(self, now: float) -> None:
        """What was counted so far is of earlier runs, and stored."""
        self.came = copy.deepcopy(self.stored)
        self.tokens = _tokens(self.usage)
        self.earlier, self.began = self.came.succeeded, now

    def recorded(self, usage: Any, *, incomplete: bool) -> None:
        """Count a row that an earlier run answered."""
        self.stored.success(incomplete=incomplete)
        self.spent(usage)

    def spent(self, usage: Any) -> None:
        """Count what is paid for, and stored."""
        add(self.usage, counted(usage))

    def success(self, usage: Any, *, incomplete: bool) -> Callable[[], None]:
        """Count an answered row. What is returned is to be called when its line is stored."""
        self.came.success(incomplete=incomplete)
        self.tokens += _tokens(usage)
        return lambda: self.recorded(usage, incomplete=incomplete)

    def failure(self, error: ChatCompletionError, usage: Any) -> Callable[[], None]:
        """Count a failed row, in the same way."""
        kind = self.kind(error)
        self.came.failed[kind] += 1
        self.tokens += _tokens(usage)

        def stored() -> None:
            self.stored.failed[kind] += 1
            self.spent(usage)

        return stored

    def doubt(self, place: str, doubts: Iterable[str]) -> None:
        """Log what was read otherwise than it was written, or may not be what it seems: each once for the batch."""
        for doubt in doubts:
            if doubt not in self._doubts and len(self._doubts) < _DOUBTS:
                self._doubts.add(doubt)
                log.warning("Row %s: %s (said once for the whole batch)", place, doubt)

    def kind(self, error: ChatCompletionError) -> str:
        """What errors are counted by."""
        name = type(error).__name__
        return name if error.status is None else f"{name} {error.status}"

    @property
    def failures(self) -> int:
        return self.came.failed.total()

    @property
    def missing(self) -> int:
        return self.total - self.stored.succeeded - self.stored.failed.total()

    def speed(self, now: float) -> float:
        """Rows that this run has got through in a second."""
        return (self.came.succeeded - self.earlier + self.failures) / max(now - self.began, 1e-3)

    def progress(self, now: float) -> str:
        """One line for the log."""
        through, speed = self.came.succeeded + self.failures, self.speed(now)
        eta = _duration((self.total - through) / speed) if speed else "unknown"
        return (
            f"{through:,} of {self.total:,} rows ({self.failures:,} failed), {speed:.1f} rows/s, ETA {eta}, "
            f"{self.tokens:,} tokens"
        )

    def manifest(self, now: float) -> dict[str, Any]:
        """The outcome so far, in a form that XCom takes: of lines that are stored."""
        return {
            "total": self.total,
            "succeeded": self.stored.succeeded,
            "failed": dict(self.stored.failed),
            "missing": self.missing,
            "incomplete": self.stored.incomplete,
            "usage": self.usage,
            "seconds": round(now - self.began, 3),
            "rows_per_second": round(self.speed(now), 2),
        }

    def told(self) -> str:
        """The failures, for an error."""
        return ", ".join(f"{kind}: {count:,}" for kind, count in self.came.failed.most_common(5))


def _tokens(usage: Any) -> int:
    """The tokens for the log."""
    total = tokens_of(usage) or 0
    return total if 0 <= total <= MOST else 0


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
