"""The counts of a batch: what is logged while it runs, and its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from airflow_chat_provider.core.errors import ChatCompletionError


class Tally:
    """``total`` rows are wanted; ``earlier`` of them had a result when this run began, ``began`` seconds."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.succeeded = 0
        self.earlier = 0
        self.incomplete = 0
        self.failed: Counter[str] = Counter()
        self.usage: Counter[str] = Counter()
        self.began = 0.0

    def begin(self, now: float) -> None:
        """What was counted so far is of earlier runs."""
        self.earlier, self.began = self.succeeded, now

    def success(self, usage: Any, *, incomplete: bool) -> None:
        self.succeeded += 1
        self.incomplete += incomplete
        if isinstance(usage, Mapping):
            for name, value in usage.items():
                if type(value) is int:
                    self.usage[name] += value

    def failure(self, error: ChatCompletionError) -> int:
        """Count a failed row; how many of its kind there are."""
        kind = type(error).__name__
        name = kind if error.status is None else f"{kind} {error.status}"
        self.failed[name] += 1
        return self.failed[name]

    @property
    def failures(self) -> int:
        return self.failed.total()

    @property
    def missing(self) -> int:
        return self.total - self.succeeded - self.failures

    def speed(self, now: float) -> float:
        """Rows that this run has got through in a second."""
        return (self.succeeded - self.earlier + self.failures) / max(now - self.began, 1e-3)

    def progress(self, now: float) -> str:
        """One line for the log."""
        through, speed = self.succeeded + self.failures, self.speed(now)
        eta = _duration((self.total - through) / speed) if speed else "unknown"
        return (
            f"{through:,} of {self.total:,} rows ({self.failures:,} failed), {speed:.1f} rows/s, ETA {eta}, "
            f"{self.usage['total_tokens']:,} tokens"
        )

    def manifest(self, now: float) -> dict[str, Any]:
        """The outcome so far, in a form that XCom takes."""
        return {
            "total": self.total,
            "succeeded": self.succeeded,
            "failed": dict(self.failed),
            "missing": self.missing,
            "incomplete": self.incomplete,
            "usage": dict(self.usage),
            "seconds": round(now - self.began, 3),
            "rows_per_second": round(self.speed(now), 2),
        }

    def told(self) -> str:
        """The failures, for an error."""
        return ", ".join(f"{kind}: {count:,}" for kind, count in self.failed.most_common(5))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
