"""How long a server asks to wait: in its headers, in the body of its error, or in the error's words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import NamedTuple

from airflow_chat_provider.core.server.verdict import Words
from airflow_chat_provider.core.types import JSON

LONGEST = 31 * 86400.0
"""Seconds. Allowances are renewed once a month at the latest: a longer wait is a server's slip, and is ignored."""
_LONGEST_TEXT = 64  # characters of a time: no server needs more, and reading may take time that grows with their square
_LONGEST_HEADER = 512
_EPOCH = 1e9  # seconds: a number above it is a date (of 2001 or later), not a wait of thirty years

_UNITS = {"ms": 0.001, "millisecond": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0}
_UNITS |= {"minute": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_SPAN = (
    r"(\d{1,15}(?:\.\d{1,15})?)\s{0,2}"
    r"(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])[,\s]{0,2}"
)
_ISO_SPAN = r"p(?:(\d{1,5})d)?(?:t(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,10}(?:\.\d{1,9})?)s)?)?"
_ISO_UNITS = (86400.0, 3600.0, 60.0, 1.0)
# OpenAI and Groq: "Please try again in 6m0s". Gemini: "Please retry in 2.5s". Azure: "retry after 20 seconds". GitHub
# Models: "Please wait 3000 seconds". Google: "Your quota will reset after 2h21m30s".
_ASKED = rf"(?i)\b(?:try\s+again|retry|wait|resets?)\b[^.;\d\n]{{0,30}}?((?:{_SPAN}){{1,4}})"

_ASKS = ("retry-after", "x-retry-after", "x-ms-retry-after", "ratelimit-retry-after", "x-ratelimit-retry-after")
_ASKS_MS = ("retry-after-ms", "x-ms-retry-after-ms", "x-retry-after-ms")
_LITELLM = "llm_provider-"  # before each header of the server behind LiteLLM's proxy
# OpenAI: x-ratelimit-reset-tokens. Anthropic: anthropic-ratelimit-tokens-reset. The IETF's draft: ratelimit-reset.
_RESET = r"(?:x-|anthropic-)?rate-?limit-(?:[a-z0-9-]{1,60}-)?reset(?:-[a-z0-9-]{1,60})?"
_IETF = r"(?:^|[;,\s])(r|t|remaining|reset)=(\d{1,15})(?![\d.])"
# Where the comma is not the one of an HTTP date: "2, 2", of two headers that a proxy has joined.
_COMMA = r"(?i)(?<!mon)(?<!tue)(?<!wed)(?<!thu)(?<!fri)(?<!sat)(?<!sun)(?<!day)\s*,\s*"

# Fields of a body, without case, '_' and '-'.
_SECONDS = frozenset(
    {
        "retryafter",
        "retryafters",
        "retryafterseconds",
        "retryaftersecondsraw",  # OpenRouter
        "retryin",
        "retryinseconds",
        "retrydelay",  # Gemini: google.rpc.RetryInfo
        "quotaresetdelay",  # Google: google.rpc.ErrorInfo
        "estimatedtime",  # Hugging Face: until a model is loaded
        "resetsinseconds",  # OpenAI's plans
        "resetinseconds",
        "resetafter",
        "waitseconds",
    }
)
_MILLISECONDS = frozenset({"retryafterms", "retrydelayms", "resetafterms"})
_DATES = frozenset({"quotaresettimestamp", "resetsat", "resetat", "retryat"})
_NOT_OF_ERRORS = frozenset({"choices", "usage", "messages", "input", "request", "previouserrors"})
_MOST, _DEEPEST = 400, 8  # values of a body that are looked at, and levels


def retry_after(
    headers: Mapping[str, str], *, status: int, now: float, body: JSON = None, words: Words | None = None
) -> float | None:
    """Seconds that the server asks to wait: the longest that makes sense; None if it asks for none.

    ``retry-after`` and its kind, the body and its words ask. ``x-ratelimit-reset-*`` and its kind only say when an
    allowance is whole again, and some servers send them with every answer. So they count under 429 and 498 alone, if
    nothing asks; and then those whose allowance is used up, if any is. ``now`` is epoch seconds, ``body`` and ``words``
    are those of an error.
    """
    found = _Body(now)
    found.look(body)
    headers = _own({**{_LITELLM + name: value for name, value in found.headers.items()}, **headers})
    start = _start(headers, now)
    waits = [*_asked(headers, start), *found.waits]
    said = words.find(_ASKED) if words is not None else None
    if said is not None and (wait := _span(said[1])) is not None:
        waits.append(wait)
    if waits:
        return max(waits)
    if status not in (429, 498):
        return None
    allowances = _allowances(headers, start)
    gone = [one.wait for one in allowances if one.is_gone]
    return max(gone) if gone else min((one.wait for one in allowances), default=None)


def allowance_gone(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds until a server that just answered takes more; None where none of its allowances is used up."""
    headers = _own(headers)
    allowances = _allowances(headers, _start(headers, now))
    gone = [one.wait for one in allowances if one.is_gone]
    return max(gone) if gone else None


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers. Those of the server behind a LiteLLM proxy count under their own names, if the proxy has none."""
    behind = {name.removeprefix(_LITELLM): value for name, value in headers.items() if name.startswith(_LITELLM)}
    for name in (*_ASKS, *_ASKS_MS):  # both ask
        if name in behind and name in headers:
            behind[name] = f"{headers[name]}, {behind[name]}"
    return {**behind, **headers, **{name: behind[name] for name in (*_ASKS, *_ASKS_MS) if name in behind}}


def _start(headers: Mapping[str, str], now: float) -> float:
    """The server's clock, if it states its time, else ours: a date in a header counts by the clock that wrote it."""
    served = _http_date(headers.get("date", ""))
    return now if served is None else served


def _asked(headers: Mapping[str, str], start: float) -> list[float]:
    """The waits in headers that ask for one."""
    seconds = [wait for name in _ASKS for wait in _waits(headers.get(name), start)]
    exact = [wait for name in _ASKS_MS for wait in _waits(headers.get(name), start, 0.001)]
    if seconds and exact and max(seconds) - 1 < max(exact) < max(seconds):
        return exact  # the seconds are the same wait, rounded up
    return seconds + exact


def _waits(text: str | None, start: float, unit: float = 1.0) -> list[float]:
    """The waits that a header names; a proxy may have joined several headers into one."""
    if not text or len(text) > _LONGEST_HEADER:
        return []
    waits = (_seconds(part, start, unit) for part in re.split(_COMMA, text))
    return [wait for wait in waits if wait is not None]


class _Allowance(NamedTuple):
    """``wait``: seconds until it is whole again. ``is_gone``: nothing is left of it."""

    wait: float
    is_gone: bool


def _allowances(headers: Mapping[str, str], start: float) -> list[_Allowance]:
    found = []
    for name, value in headers.items():
        if "reset" in name and re.fullmatch(_RESET, name):
            waits = _waits(value, start)
            if waits:
                left = headers.get(name.replace("reset", "remaining", 1))
                found.append(_Allowance(max(waits), left is not None and left.strip() == "0"))
        elif name == "ratelimit" and len(value) <= _LONGEST_HEADER:
            found.extend(_ietf(value))
    return found


def _ietf(value: str) -> Iterator[_Allowance]:
    """The IETF's ``"default";r=0;t=30, "daily";r=5;t=900``, or ``limit=9, remaining=0, reset=30`` of earlier drafts."""
    for policy in re.split(r',\s*(?=")', value.lower()):
        says: dict[str, str] = dict(re.findall(_IETF, policy))
        wait = _sensible(float(says.get("t", says.get("reset", "nan"))))
        if wait is not None:
            yield _Allowance(wait, says.get("r", says.get("remaining")) == "0")


class _Body:
    """The waits in a body, as many levels down as an error may have; a walk of a fixed number of values.

    ``headers`` are those of the server behind the one that answered: OpenRouter quotes them.
    """

    def __init__(self, now: float) -> None:
        self.waits: list[float] = []
        self.headers: dict[str, str] = {}
        self._now = now
        self._left = _MOST

    def look(self, value: JSON, depth: int = _DEEPEST) -> None:
        if isinstance(value, list) and depth:
            for item in value[: max(self._left, 0)]:
                self._left -= 1
                self.look(item, depth - 1)
        elif isinstance(value, dict) and depth:
            for key, item in islice(value.items(), max(self._left, 0)):
                self._left -= 1
                self._take(key.lower().replace("_", "").replace("-", ""), item, depth)

    def _take(self, name: str, value: JSON, depth: int) -> None:
        if name in _NOT_OF_ERRORS:
            return
        if name == "headers" and isinstance(value, dict):
            for key, item in islice(value.items(), _MOST):
                if isinstance(item, str | float) or (type(item) is int and abs(item) < 10**18):
                    self.headers[key.lower()] = str(item)[:_LONGEST_HEADER]
        elif name in _SECONDS or name in _MILLISECONDS:
            self._add(_in_field(value, self._now, 0.001 if name in _MILLISECONDS else 1.0))
        elif name in _DATES and (isinstance(value, str) or (isinstance(value, int | float) and value > _EPOCH)):
            self._add(_in_field(value, self._now))
        else:
            self.look(value, depth - 1)

    def _add(self, wait: float | None) -> None:
        if wait is not None:
            self.waits.append(wait)


def _in_field(value: JSON, now: float, unit: float = 1.0) -> float | None:
    """Seconds of a wait that is a number, a text, or protobuf's ``{"seconds": 2, "nanos": 500000000}``."""
    if isinstance(value, dict):
        parts = (value.get("seconds"), 1.0), (value.get("nanos"), 1e-9)
        known = [wait for part, unit in parts if part and (wait := _in_field(part, now, unit)) is not None]
        return _sensible(sum(known)) if known else None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or (type(value) is int and value >= 10**18):
        return None
    return _seconds(str(value), now, unit)


def _seconds(text: str, start: float, unit: float = 1.0) -> float | None:
    """Seconds in ``2.5``, ``20ms``, ``6m0s`` or ``PT2S``; or from ``start`` until an epoch, HTTP or ISO date.

    ``unit``: how many seconds a bare number counts. An epoch may be in seconds or milliseconds. None for anything else.
    """
    text = text.strip() if len(text) <= _LONGEST_TEXT else ""
    try:
        number = float(text)
    except ValueError:
        wait = _span(text)
        if wait is not None:
            return wait
        at = _http_date(text) if text else None
        at = at if at is not None else _iso_date(text)
        return _sensible(max(0.0, at - start)) if at is not None else None
    if unit == 1.0 and number > _EPOCH:
        return _sensible(max(0.0, (number / 1000 if number > 1000 * _EPOCH else number) - start))
    return _sensible(number * unit)


def _sensible(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0 <= seconds <= LONGEST else None


def _span(text: str) -> float | None:
    text = text.strip().lower()
    iso = re.fullmatch(_ISO_SPAN, text)
    if iso is not None:
        seconds = [float(part) * unit for part, unit in zip(iso.groups(), _ISO_UNITS, strict=True) if part]
        return _sensible(sum(seconds)) if seconds else None
    found: list[tuple[str, str]] = re.findall(_SPAN, text)
    if not found or re.sub(_SPAN, "", text):
        return None
    return _sensible(sum(float(number) * _UNITS[unit if unit in _UNITS else unit[:-1]] for number, unit in found))


def _http_date(text: str) -> float | None:
    try:
        return _epoch(parsedate_to_datetime(text if len(text) <= _LONGEST_TEXT else ""))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _iso_date(text: str) -> float | None:
    try:
        return _epoch(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _epoch(date: datetime) -> float:
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()  # HTTP has no local times
