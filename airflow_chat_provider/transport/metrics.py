"""What calls add to Airflow's own metrics: counts by model and connection, and how long calls took.

The names of models and connections become tags, so they are cut, and made of characters that every backend takes.
"""

from __future__ import annotations

import logging
import random
import re
from collections import Counter
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.airflow_api import compat
from airflow_chat_provider.core.answer.usage import read_usage, usage_in

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply

PREFIX = "chat_completion"
_LONGEST_TAG = 64  # characters: with InfluxDB's tags, Airflow drops a metric whose name and tags have more than 250
_MODELS = 100  # whoever takes the model from the data must not make a time series of each row
_OTHERS = "other"
_SAMPLE = 32  # durations that are sent of the calls between two flushes

log = logging.getLogger(__name__)


@cache
def backend() -> Any:
    """Airflow's Stats; None where metrics are off, or where Airflow cannot set them up."""
    try:
        return compat.stats()
    except Exception as error:  # noqa: BLE001 - a call does not fail for its metrics
        _warn(type(error).__name__)
        return None


def warm_up() -> None:
    """Have the backend made, which may look up a host or import an exporter. Airflow makes it when it is first used."""
    stats = backend()
    if stats is None:
        return
    try:
        stats.timer()
    except Exception as error:  # noqa: BLE001 - as above
        _warn(type(error).__name__)


class Sums:
    """The counts of the calls over one connection since the last flush. Only for use where there is a ``backend``."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = as_tag(conn_id)
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._times: list[tuple[float, str, str]] = []
        self._timed = 0

    def note(self, model: Any, reply: Reply, attempts: int, kind: str | None) -> None:
        """Count a call. ``model`` is the one that was asked for, ``kind`` that of the call's error, if it has one."""
        name, counts = _model_tag(model), self._counts
        status = "none" if reply.status is None else str(reply.status)
        counts["calls", name, "status", status] += 1
        if attempts > 1:
            counts["retries", name, "", ""] += attempts - 1
        if kind is not None:
            counts["errors", name, "error", as_tag(kind)] += 1
        usage = read_usage(usage_in(reply.body))
        for side in ("input", "output"):
            if tokens := usage.get(f"{side}_tokens"):
                counts["tokens", name, "type", side] += tokens  # type: ignore[assignment]
        if cost := usage.get("cost"):
            counts["cost", name, "", ""] += cost  # type: ignore[assignment]
        self._time((reply.seconds * 1000.0, name, status))

    def _time(self, time: tuple[float, str, str]) -> None:
        """Keep a sample in which each call is as likely to be as any other."""
        self._timed += 1
        if len(self._times) < _SAMPLE:
            self._times.append(time)
        elif (place := random.randrange(self._timed)) < _SAMPLE:  # noqa: S311 - a sample, guards nothing
            self._times[place] = time

    def flush(self) -> None:
        """Send what was counted. Whatever is wrong with the backend, nothing is raised."""
        counts, times = self._counts, self._times
        if not counts:
            return
        self._counts, self._times, self._timed = Counter(), [], 0
        stats = backend()
        if stats is None:
            return
        try:
            for (metric, model, name, value), count in counts.items():
                tags = {"model": model, "conn_id": self._conn_id}
                stats.incr(f"{PREFIX}.{metric}", count, tags={**tags, name: value} if name else tags)
            for milliseconds, model, status in times:
                tags = {"model": model, "conn_id": self._conn_id, "status": status}
                stats.timing(f"{PREFIX}.duration", milliseconds, tags=tags)
        except Exception as error:  # noqa: BLE001 - as above
            _warn(type(error).__name__)


@cache
def _warn(why: str) -> None:
    """Once in a process for each kind of error."""
    log.warning("Check Airflow's settings for metrics: those of a call could not be sent (%s)", why)


@lru_cache(1024)
def as_tag(text: str) -> str:
    """Text as the value of a tag: letters, digits and ``_.-/``, which statsd, InfluxDB and Datadog all take."""
    return re.sub(r"[^A-Za-z0-9_./-]", "_", text[:_LONGEST_TAG]) or "none"


_models: set[str] = set()


def _model_tag(model: Any) -> str:
    """The tag of a model; one for all that come after the first hundred in this process."""
    if not isinstance(model, str) or not model:
        return "none"
    tag = as_tag(model[: 2 * _LONGEST_TAG])
    if tag not in _models:
        if len(_models) >= _MODELS:
            return _OTHERS
        _models.add(tag)
    return tag
