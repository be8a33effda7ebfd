"""What the models of many vendors cost, by the package genai-prices. Its data lies in the package: nothing is fetched.

A price holds only where it is sure. The base URL has to be that of a vendor whom the package knows: a server of one's
own, or a gateway, is never priced as if it was OpenAI. The name of the model has to be one that the package lists, with
no more behind it than a date or a version: it also takes names for a model that only begin like it.
"""

from __future__ import annotations

import logging
import re
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from airflow_chat_provider.core.cost.prices import Counts, Pricer, Rates, rounded

_PACKAGE = "genai_prices"
_LONGEST_NAME = 256  # characters of a model's name that is looked up
_PRICES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
"""The kinds of prices in Rates, by the package's names."""
_ALWAYS_COUNT = ("requests_kcount", "output_reasoning_mtok", "output_citation_mtok")
"""Prices that an answer may have to pay without a word of it in its usage."""
_OTHER_COUNTS = {
    "input_audio_tokens": ("prompt_tokens_details", "audio_tokens"),
    "output_audio_tokens": ("completion_tokens_details", "audio_tokens"),
    "input_image_tokens": ("prompt_tokens_details", "image_tokens"),
    "output_image_tokens": ("completion_tokens_details", "image_tokens"),
    "input_video_tokens": ("prompt_tokens_details", "video_tokens"),
    "cache_write_1h_tokens": ("cache_creation", "ephemeral_1h_input_tokens"),
}
"""Tokens with prices of their own, by the package's names, and where servers state them."""
_DEARER = {
    "input_audio_tokens": "input_audio_mtok",
    "output_audio_tokens": "output_audio_mtok",
    "output_image_tokens": "output_image_mtok",
}
"""These cost far more than text, so an answer with them has no cost where the package has no price of theirs."""
_TIER = "service_tier"
_USUAL_TIERS = ("default", "standard", "auto", "on_demand")
_VERSION = r"(?:[-@:_.]?(?:\d{3,4}|\d{6}|\d{8}|\d{4}-\d\d-\d\d|latest))?(?:(?:-v\d+)?:\d+)?"
"""What may stand behind the name of a model: 2026-11-27, 20261127, 1127, 001, latest, v1:0."""

log = logging.getLogger(__name__)
_lock = threading.Lock()
_loaded: list[Any] = []
"""The package's data, once it is loaded: a snapshot, or None where that failed."""


def other_counts(body: Any) -> dict[str, Any]:
    """What an answer says of tokens with prices of their own, and of the service tier that it was given."""
    found: dict[str, Any] = {}
    usage = body.get("usage") if isinstance(body, dict) else None
    for name, (place, key) in _OTHER_COUNTS.items():
        inner = usage.get(place) if isinstance(usage, dict) else None
        count = inner.get(key) if isinstance(inner, dict) else None
        if type(count) is int and count > 0:
            found[name] = count
    tier = body.get(_TIER) if isinstance(body, dict) else None
    return {**found, _TIER: tier} if isinstance(tier, str) and tier not in _USUAL_TIERS else found


class PublicPrices:
    """The public prices for one base URL. Nothing is imported before a model is looked up."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._may_know = _is_installed() and _is_public(base_url)

    @property
    def is_unread(self) -> bool:
        """Does the next look-up load the package, which takes half a second?"""
        return self._may_know and not _loaded

    def find(self, model: str) -> Pricer | None:
        """The prices of a model; None if they are not known for sure. Never raises, whatever the package does."""
        if not self._may_know or len(model) > _LONGEST_NAME:
            return None
        try:
            return _look_up(self._base_url, model)
        except Exception as error:  # noqa: BLE001 - another version of the package may do anything
            _warn(type(error).__name__)
            return None


def _look_up(base_url: str, name: str) -> Pricer | None:
    data = _load()
    provider = None if data is None else _provider(data, base_url)
    if data is None or provider is None:
        return None
    model = provider.find_model(name.lower(), all_providers=data.providers)
    if model is None or not (_is_named(name, model.id) or _names(model.match, name)):
        return None
    return _Public(model, provider)


def _provider(data: Any, base_url: str) -> Any:
    """The vendor whose base URL this is. The package's patterns say how a URL begins: api.x.com.example.com, too."""
    for provider in data.providers:
        found = re.match(provider.api_pattern, base_url)
        if found is not None and (found[0][-1:] in "./" or base_url[found.end() : found.end() + 1] in ("", "/", ":")):
            return provider
    return None


def _is_named(name: str, known: str) -> bool:
    """Is it this very name, but for the folder in front of it and a version behind it?"""
    pattern = rf"(?i)(?:.*/)?{re.escape(known.rstrip('-@:'))}{_VERSION}"
    return re.fullmatch(pattern, name) is not None


def _names(clause: Any, name: str) -> bool:
    """Does the rule by which the package took a name for a model say this very name?"""
    several = getattr(clause, "or_", None) or getattr(clause, "and_", None)
    if several:
        return any(_names(one, name) for one in several)
    for kind in ("equals", "starts_with", "ends_with", "contains"):
        known = getattr(clause, kind, None)
        if isinstance(known, str) and clause.is_match(name.lower()) and _is_named(name, known):
            return True
    pattern = getattr(clause, "regex", None)
    is_whole = isinstance(pattern, str) and pattern[:1] == "^" and pattern[-1:] == "$" and "(?!" not in pattern
    return is_whole and ".*" not in str(pattern) and clause.is_match(name.lower())


class _Public:
    """The prices of a model as the package has them: they may depend on the day, the hour and the length of the input.

    Where they are plain, they are made Rates; the package itself does the rest, which takes ten times as long.
    """

    def __init__(self, model: Any, provider: Any) -> None:
        self._model = model
        self._provider = provider
        self._levels: dict[int, tuple[tuple[int, Rates], ...]] = {}

    @property
    def rates(self) -> Rates | None:
        """See ``Pricer``: those of a short input."""
        try:
            levels = _levels(self._model.get_prices(datetime.now(UTC)))
            return levels[-1][1] if levels else None
        except Exception as error:  # noqa: BLE001 - see find()
            _warn(type(error).__name__)
            return None

    def cost(self, counts: Counts) -> Decimal | None:
        """See ``Pricer``."""
        try:
            return self._cost(counts)
        except Exception as error:  # noqa: BLE001 - see find()
            _warn(type(error).__name__)
            return None

    def _cost(self, counts: Counts) -> Decimal | None:
        read, written = counts.get("input_tokens"), counts.get("output_tokens")
        if type(read) is not int or type(written) is not int:
            return None
        now, special = datetime.now(UTC), [name for name in (*_OTHER_COUNTS, _TIER) if counts.get(name)]
        prices = self._model.get_prices(now)
        if not special:
            # The package keeps what it returns here, so no other prices can come to have the same id.
            key = id(prices)
            if key not in self._levels:
                is_plain = all(getattr(prices, name, None) is None for name in _ALWAYS_COUNT)
                self._levels[key] = _levels(prices) if is_plain else ()
            levels = self._levels[key]
            if levels:
                return next(rates for start, rates in levels if read > start).cost(counts)
        return self._by_package(counts, now)

    def _by_package(self, counts: Counts, now: datetime) -> Decimal | None:
        from genai_prices import Usage

        tier = counts.get(_TIER)
        context = None if tier is None else {_TIER: tier}
        if tier is not None and not any(variant.when == context for variant in self._model.price_variants or ()):
            return None  # nobody knows what this tier costs
        prices = self._model.get_prices(now, context)
        needed = ("input_mtok", "output_mtok", *(name for count, name in _DEARER.items() if counts.get(count)))
        if any(getattr(prices, name) is None for name in needed):
            return None
        own = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", *_OTHER_COUNTS)
        taken = {name: counts[name] for name in own if counts.get(name)}
        if thought := counts.get("reasoning_tokens"):
            taken["output_reasoning_tokens"] = thought
        found = prices.calc_price(Usage(**taken))["total_price"]
        return rounded(found) if isinstance(found, Decimal) and found.is_finite() and found >= 0 else None


def _levels(prices: Any) -> tuple[tuple[int, Rates], ...]:
    """Rates by the length of the input that they begin above, the highest first; empty if there are none."""
    given = {kind: price for kind, name in _PRICES.items() if (price := getattr(prices, name)) is not None}
    if not {"input", "output"} <= given.keys():
        return ()
    starts = {-1, *(tier.start for price in given.values() for tier in getattr(price, "tiers", ()))}
    return tuple(
        (start, Rates(**{kind: _above(price, start) for kind, price in given.items()}))
        for start in sorted(starts, reverse=True)
    )


def _above(price: Any, start: int) -> Decimal:
    """The price that holds for an input of more than ``start`` tokens."""
    if isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if tier.start <= start]
    found = reached[-1] if reached else price.base
    if not isinstance(found, Decimal):
        raise TypeError("a price is not a Decimal")
    return found


def _load() -> Any:
    """The package's data, loaded once in a process; None if that fails."""
    with _lock:
        if not _loaded:
            try:
                from genai_prices.data_snapshot import get_snapshot

                data = get_snapshot()
                log.info("What models cost is known from genai-prices %s%s", version("genai-prices"), _as_of(data))
            except Exception as error:  # noqa: BLE001 - see find()
                _warn(type(error).__name__)
                data = None
            _loaded.append(data)
        return _loaded[0]


def _as_of(data: Any) -> str:
    """The day of its newest price: the package does not say from when its data is."""
    today = datetime.now(UTC).date()
    days = [
        day
        for provider in data.providers
        for model in provider.models
        for price in (model.prices if isinstance(model.prices, list) else ())
        if isinstance(day := getattr(price.constraint, "start_date", None), date) and day <= today
    ]
    return f", whose newest price is of {max(days)}" if days else ""


@cache
def _is_installed() -> bool:
    return find_spec(_PACKAGE) is not None


def _is_public(base_url: str) -> bool:
    """Can this be a vendor's server? Not one on this machine, or in this network."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return False
    try:
        ip_address(host)
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal"))
    return False


@cache
def _warn(why: str) -> None:
    """Once in a process for each kind of error."""
    log.warning("Set the extra 'prices': genai-prices does not say what a model costs (%s)", why)
