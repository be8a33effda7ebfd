"""What calls add to Airflow's own metrics: counts by model and connection, and how long calls took.

The names of models and connections become tags, so they are cut, and made of characters that every backend takes.
"""

from __future__ import annotations

import logging
import random
import re
from collections import Counter
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.airflow_api import compat
from airflow_chat_provider.core.answer.usage import LARGEST, cost_of, read_usage, usage_in

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


class _Sum:
    """Of the calls with the same model and status."""

    __slots__ = ("calls", "cost", "input", "output", "retries")

    def __init__(self) -> None:
        self.calls = self.retries = self.input = self.output = 0
        self.cost = Decimal(0)


class Sums:
    """The counts of the calls over one connection since the last flush. Only for use where there is a ``backend``."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = as_tag(conn_id)
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[tuple[str, int | None], _Sum] = {}
        self._errors: Counter[tuple[str, str]] = Counter()
        self._times: list[tuple[float, str, int | None]] = []
        self._timed = 0

    def note(self, model: Any, reply: Reply, attempts: int, kind: str | None) -> None:
        """Count a call. ``model`` is the one that was asked for, ``kind`` that of the call's error, if it has one."""
        name = _model_tag(model)
        key = name, reply.status
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum()
        found.calls += 1
        found.retries += max(0, attempts - 1)
        if kind is not None:
            self._errors[name, kind] += 1
        for attempt in (*reply.earlier, reply):
            tokens_in, tokens_out = _taken(attempt.body)
            found.input += tokens_in
            found.output += tokens_out
            found.cost += cost_of(attempt) or 0
        self._time((reply.seconds * 1000.0, name, reply.status))

    def _time(self, time: tuple[float, str, int | None]) -> None:
        """Keep a sample in which each call is as likely to be as any other."""
        self._timed += 1
        if self._timed <= _SAMPLE:
            self._times.append(time)
        elif (place := int(random.random() * self._timed)) < _SAMPLE:  # noqa: S311 - a sample, guards nothing
            self._times[place] = time

    def flush(self) -> None:
        """Send what was counted. Whatever is wrong with the backend, nothing is raised."""
        sums, errors, times = self._sums, self._errors, self._times
        if not sums:
            return
        self._clear()
        stats = backend()
        if stats is None:
            return
        try:
            for (model, status), found in sums.items():
                self._send(stats, model, status, found)
            for (model, kind), count in errors.items():
                stats.incr(f"{PREFIX}.errors", count, tags=self._tags(model, error=as_tag(kind)))
            for milliseconds, model, status in times:
                stats.timing(f"{PREFIX}.duration", milliseconds, tags=self._tags(model, status=_status(status)))
        except Exception as error:  # noqa: BLE001 - as above
            _warn(type(error).__name__)

    def _send(self, stats: Any, model: str, status: int | None, found: _Sum) -> None:
        stats.incr(f"{PREFIX}.calls", found.calls, tags=self._tags(model, status=_status(status)))
        for metric, count, tags in (
            ("retries", found.retries, self._tags(model)),
            ("tokens", found.input, self._tags(model, type="input")),
            ("tokens", found.output, self._tags(model, type="output")),
            ("cost", float(found.cost), self._tags(model)),
        ):
            if count:
                stats.incr(f"{PREFIX}.{metric}", count, tags=tags)

    def _tags(self, model: str, **more: str) -> dict[str, str]:
        return {"model": model, "conn_id": self._conn_id, **more}


def _status(status: int | None) -> str:
    return "none" if status is None else str(status)


def _taken(body: Any) -> tuple[int, int]:
    """Tokens of the input and the output: 0 for what the server does not state."""
    usage = body.get("usage") if type(body) is dict else None
    if type(usage) is dict:
        asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if type(asked) is int and type(answered) is int and 0 < asked <= LARGEST and 0 < answered <= LARGEST:
            return asked, answered  # what almost every server sends; the rest takes ten times as long to read
    found: dict[str, Any] = read_usage(usage_in(body))
    return found.get("input_tokens", 0), found.get("output_tokens", 0)


@cache
def _warn(why: str) -> None:
    """Once in a process for each kind of error."""
    log.warning("Check Airflow's settings for metrics: those of a call could not be sent (%s)", why)


@lru_cache(1024)
def as_tag(text: str) -> str:
    """Text as the value of a tag: letters, digits and ``_.-/``, which statsd, InfluxDB and Datadog all take."""
    return re.sub(r"[^A-Za-z0-9_./-]", "_", text[:_LONGEST_TAG]) or "none"


_models: dict[str, str] = {}


def _model_tag(model: Any) -> str:
    """The tag of a model; one for all that come after the first hundred in this process."""
    if not isinstance(model, str) or not model:
        return "none"
    name = model[:_LONGEST_TAG]
    tag = _models.get(name)
    if tag is None:
        if len(_models) >= _MODELS:
            return _OTHERS
        tag = _models[name] = as_tag(name)
    return tag
