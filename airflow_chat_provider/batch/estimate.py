"""What all requests of a batch would take and cost, summed up before any of them is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_chat_provider.batch.token_count import MODELS
from airflow_chat_provider.core.cost.estimate import Estimate

if TYPE_CHECKING:
    from airflow_chat_provider.core.cost.prices import Find

_OTHERS = "other models"


@dataclass(eq=False, slots=True)
class _Sum:
    """The tokens of one model's requests. ``output`` is the most that answers with a limit may have."""

    input: int = 0
    output: int = 0
    unlimited: int = 0


@dataclass(eq=False, repr=False)
class Bill:
    """``share`` is what remains of the price, 1 for all of it. ``rates`` finds a model's prices."""

    rates: Find
    share: Decimal = Decimal(1)
    _models: dict[str, _Sum] = field(default_factory=dict, init=False)

    def add(self, model: object, tokens: Estimate) -> None:
        """Count a request for a model."""
        name = model if isinstance(model, str) and (model in self._models or len(self._models) < MODELS) else _OTHERS
        found = self._models.setdefault(name, _Sum())
        found.input += tokens.input_tokens
        found.output += tokens.output_tokens or 0
        found.unlimited += tokens.output_tokens is None

    @property
    def input_tokens(self) -> int:
        return sum(one.input for one in self._models.values())

    @property
    def unlimited(self) -> int:
        """How many requests set no limit to their answers."""
        return sum(one.unlimited for one in self._models.values())

    @property
    def output_tokens(self) -> int | None:
        """The most that all answers may have; None if nobody knows."""
        return None if self.unlimited else sum(one.output for one in self._models.values())

    @property
    def unpriced(self) -> list[str]:
        """The models whose prices are not known."""
        return [model for model in self._models if self.rates(model) is None]

    @property
    def has_cached_price(self) -> bool:
        """Is there a model that is cheaper to send what its server has cached?"""
        return any(rates.cached_input is not None for model in self._models if (rates := self.rates(model)) is not None)

    def least(self) -> Decimal | None:
        """What the input alone costs; None if nobody knows."""
        return self._sum(Estimate(one.input) for one in self._models.values())

    def most(self) -> Decimal | None:
        """What it costs if each answer is as long as its limit allows; None if nobody knows."""
        if self.unlimited:
            return None
        return self._sum(Estimate(one.input, one.output) for one in self._models.values())

    def _sum(self, estimates: Iterator[Estimate]) -> Decimal | None:
        total = Decimal(0)
        for model, tokens in zip(self._models, estimates, strict=True):
            rates = self.rates(model)
            if rates is None:
                return None
            total += tokens.cost(rates)
        return total * self.share
