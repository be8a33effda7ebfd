"""Prices of tokens, and what an answer costs by them. All money is Decimal: floats would not add up."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, InvalidOperation
from fnmatch import translate
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

Counts = Mapping[str, Any]
"""Tokens by the names of the XCom ``usage``: ``input_tokens``, ``cache_read_tokens`` and so on."""
_MILLION = Decimal(1_000_000)
_DIGITS = 12  # behind the point, of a cost
_SMALLEST = Decimal(1).scaleb(-_DIGITS)
_WIDE = Context(prec=64)  # Decimal's own 28 digits are too few for the largest counts at the largest prices
_WHOLE = 2**53  # up to here JSON's readers keep a whole number as it is
_LARGEST = Decimal(10) ** 9  # per million tokens, and of a cost: a larger one is a mistake
_LONGEST = 256  # characters of a model's name
KINDS = ("input", "cached_input", "cache_write", "output")
"""The prices that a model may have: cached_input and cache_write are those of input where they are left out."""


class Pricer(Protocol):
    """Knows the prices of one model, which may depend on more than Rates can say: the day, or the input's length."""

    @property
    def rates(self) -> Rates | None:
        """What a request without anything special costs, for an estimate; None if nobody knows."""

    def cost(self, counts: Counts) -> Decimal | None:
        """What an answer with these counts costs; None if it has no count of its input or its output."""


class Rates(NamedTuple):
    """The prices of one model, per million tokens in the currency of the account."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None

    @property
    def rates(self) -> Rates:
        """See ``Pricer``."""
        return self

    def cost(self, counts: Counts) -> Decimal | None:
        """See ``Pricer``."""
        read, written = counts.get("input_tokens"), counts.get("output_tokens")
        if type(read) is not int or type(written) is not int:
            return None
        cached = min(read, _count(counts, "cache_read_tokens"))
        kept = min(read - cached, _count(counts, "cache_write_tokens"))
        total = (read - cached - kept) * self.input + written * self.output
        if cached:
            total += cached * (self.input if self.cached_input is None else self.cached_input)
        if kept:
            total += kept * (self.input if self.cache_write is None else self.cache_write)
        return rounded(total / _MILLION)


def billed(counts: Counts) -> Counts:
    """The counts as they are billed. xAI and Gemini leave reasoning out of the output, but not out of the total."""
    read, written, total = (counts.get(name) for name in ("input_tokens", "output_tokens", "total_tokens"))
    if type(read) is not int or type(written) is not int or type(total) is not int:
        return counts
    left = total - read - written
    cached, kept = _count(counts, "cache_read_tokens"), _count(counts, "cache_write_tokens")
    if left <= 0 or left in (cached, kept, cached + kept):  # the total may count what the input leaves out
        return counts
    return {**counts, "output_tokens": written + left}


Find = Callable[[str], Rates | None]
"""The prices of a model by its name; None for one whose prices are not known."""


def _count(counts: Counts, name: str) -> int:
    count = counts.get(name)
    return count if type(count) is int else 0


def read_prices(value: object) -> dict[str, Rates]:
    """The extra ``prices``: an object of prices by patterns of models.

    Raises ValueError, whose words follow the name of the extra, as in "prices must be ...".
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError('must be a JSON object like {"gpt-5.4-mini*": {"input": "0.25", "output": "2.00"}}')
    found = {}
    for pattern, given in value.items():
        if not isinstance(pattern, str) or not pattern.strip() or not pattern.isprintable():
            raise ValueError(f"must have the name of a model, or a pattern like 'gpt-5*', in place of {pattern!r:.70}")
        if not isinstance(given, Mapping):
            raise ValueError(  # noqa: TRY004 - one kind of error for all that is wrong
                f"must have an object of prices for {pattern[:64]!r}, like {{'input': '0.25', ...}}"
            )
        name = pattern.strip()
        if name in found:
            raise ValueError(f"must have {name[:64]!r} once: it is there with blanks around it, too")
        found[name] = _rates(name, given)
    return found


def _rates(pattern: str, given: Mapping[str, Any]) -> Rates:
    where = f"for {pattern[:64]!r}"
    strange = next((name for name in given if name not in KINDS), None)
    if strange is not None:
        raise ValueError(f"must not have {str(strange)[:64]!r} {where}: the prices of a model are {', '.join(KINDS)}")
    missing = next((name for name in ("input", "output") if given.get(name) is None), None)
    if missing is not None:
        raise ValueError(f"must have the price {missing!r} {where}, per million tokens")
    return Rates(**{name: _price(value, f"{name!r} {where}") for name, value in given.items() if value is not None})


def _price(value: object, where: str) -> Decimal:
    found = read_amount(value)
    if found is None:
        raise ValueError(f"must have a number of 0 or more for {where}, per million tokens, not {_shown(value)}")
    return found


def read_amount(value: object) -> Decimal | None:
    """An amount of money of 0 or more, from a number or its text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if isinstance(value, int) and abs(value) > _LARGEST:  # Python refuses to write the hugest out
        return None
    text = str(value).strip()
    if len(text) > 64 or not text.isascii() or "_" in text:
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    if not found.is_finite() or not 0 <= found <= _LARGEST:
        return None
    return abs(found)  # not -0


def _shown(value: object) -> str:
    return repr(value)[:64] if isinstance(value, str | bool | float) or value is None else type(value).__name__


def most_exact(model: str, prices: Mapping[str, Rates]) -> Rates | None:
    """The prices of a model: of its very name, or else of the pattern that says most about it."""
    rates = prices.get(model)
    if rates is not None or len(model) > _LONGEST:
        return rates
    fitting = [pattern for pattern in prices if _matcher(pattern)(model)]
    return prices[max(fitting, key=_exactness)] if fitting else None


@lru_cache(1024)
def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match


def _exactness(pattern: str) -> tuple[int, int, str]:
    """More for a pattern that names more characters; of several such, for the one with fewer wildcards."""
    wild = sum(map(pattern.count, "*?["))
    return len(pattern) - pattern.count("*") - pattern.count("?"), -wild, pattern


def stated(usage: object) -> Decimal | None:
    """The cost that a server's ``usage`` states; None if it states none. OpenRouter: cost; Perplexity: total_cost."""
    cost = usage.get("cost") if isinstance(usage, dict) else None
    cost = cost.get("total_cost") if isinstance(cost, dict) else cost
    found = read_amount(cost) if type(cost) in (int, float) else None
    return None if found is None else rounded(found)


def total(*costs: Decimal | None) -> Decimal | None:
    """The sum of the costs that are known; None if none is."""
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if known else None


def rounded(cost: Decimal) -> Decimal:
    """A cost to the twelfth digit behind the point, as it is kept: what is read back adds up to the same sum."""
    return cost.quantize(_SMALLEST, context=_WIDE)


def number(cost: Decimal | None) -> float | int | None:
    """A cost as JSON has it."""
    if cost is None:
        return None
    whole = cost.to_integral_value()
    return int(whole) if whole == cost and whole <= _WHOLE else float(cost)


def shown(cost: Decimal, currency: str | None) -> str:
    """A cost for a reader, ``0.0123 USD``: two digits behind the point, and more where these say too little."""
    digits = 2 if cost >= 1 or not cost else min(_DIGITS, 2 - cost.adjusted())
    whole, _, rest = f"{cost:,.{digits}f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')} {currency or ''}".rstrip()
