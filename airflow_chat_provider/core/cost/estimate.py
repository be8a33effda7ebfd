"""How many tokens will a request take? A guess from its length, made before it is sent; a server counts otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from airflow_chat_provider.core.cost.prices import Rates

_BYTES = 4  # of text in a token, as a rule of thumb for English and for code
_LIMITS = ("max_completion_tokens", "max_tokens")  # the first one that is there holds
_GIVEN = ("tools", "functions", "response_format")  # what the model reads beside the messages
_MOST = 2**53  # tokens: a larger number is a mistake, and sums of it would be unwieldy


class Estimate(NamedTuple):
    """The tokens of one attempt: those of the request as guessed, and the most that its answer may have.

    ``output_tokens`` is None if the request sets no limit: then nobody knows.
    """

    input_tokens: int
    output_tokens: int | None = None

    @property
    def tokens(self) -> int:
        """All tokens that are to be expected. An answer without a limit counts nothing."""
        return self.input_tokens + (self.output_tokens or 0)

    def cost(self, rates: Rates) -> Decimal:
        """What these tokens cost at most, apart from an answer without a limit."""
        counts = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens or 0}
        return rates.cost(counts) or Decimal(0)


def sure_tokens(request: Mapping[str, Any] | None, attached: int = 0) -> Estimate:
    """The tokens of a request, as (input, output at most). Pictures and sounds are not counted.

    The input is guessed from the bytes of its texts; ``attached`` are those of texts in files. The output's limit is
    the request's own, for each choice.
    """
    if not request:
        return Estimate(0)
    messages = request.get("messages")
    texts = sum(map(_message_bytes, messages if isinstance(messages, list | tuple) else ()))
    texts += attached + _bytes(value for name in _GIVEN if (value := request.get(name)) is not None)
    return Estimate(-(-texts // _BYTES), _most_output(request))


def _most_output(request: Mapping[str, Any]) -> int | None:
    limit = next((request[name] for name in _LIMITS if request.get(name) is not None), None)
    if type(limit) is not int or limit < 0:
        return None
    choices = request.get("n")
    return min(_MOST, limit * (choices if type(choices) is int and choices > 0 else 1))


def _message_bytes(message: Any) -> int:
    if not isinstance(message, Mapping):
        return 0
    content = message.get("content")
    if isinstance(content, list | tuple):
        content = [part.get("text") or part.get("refusal") for part in content if isinstance(part, Mapping)]
    return _bytes([content, *(value for name, value in message.items() if name not in ("content", "role"))])


def _bytes(values: Iterable[Any]) -> int:
    """The bytes of all texts in these values, names included."""
    total, stack = 0, list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            total += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, Mapping):
            stack.extend(value)
            stack.extend(value.values())
        elif isinstance(value, list | tuple):
            stack.extend(value)
    return total
