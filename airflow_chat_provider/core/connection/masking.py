"""Which values of a connection are secret: one rule for headers and query parameters, by their names.

Masking blanks a value in every log line of the task, so a value that is not secret must not be masked: the words
``my pipeline`` of a header ``X-Title`` would disappear everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SHORTEST = 5  # characters; a shorter value stands in other words ("1" in "10000"). Airflow's masker has the same limit
_SECRET_NAME = re.compile(
    # Not x-portkey-provider, Idempotency-Key, keyword.
    r"(?<!port)(?<!mon)(?<!tur)(?<!don)(?<!idempotency[-_])key(?!word|board|space|cloak)"
    r"|token(?!s|i[sz])"  # not max_tokens, not tokenizer
    r"|auth(?!or(?!i[sz]))"  # authorization, authentication, x-auth; not author, not authority
    r"|secret|password|passwd|passphrase|pwd|credential|cookie|bearer|jwt|signature|(?<![a-z])sig(?![a-z])",
    re.IGNORECASE,
)
# What people write where a client wants a key and the local server wants none.
_PLACEHOLDERS = frozenset(
    {"empty", "dummy", "ollama", "lm-studio", "not-needed", "not needed", "no-key", "no-key-required"}
    | {"sk-no-key-required", "placeholder", "sk-test", "local", "unused", "nothing", "anything"}
)
_SCHEME = re.compile(r"(?:bearer|basic|token|digest|negotiate|apikey|api-key|key)\s+", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Does a header or a query parameter of this name carry a secret?"""
    return _SECRET_NAME.search(name) is not None


def maskable(value: str) -> bool:
    """May a secret value be blanked wherever it stands? Not a short one, and not a word like EMPTY."""
    return len(value) >= SHORTEST and value.lower() not in _PLACEHOLDERS


def secret_values(name: str, value: str) -> Iterator[str]:
    """What is secret in a header or a query parameter: without the scheme (``Bearer``), and each cookie's value too."""
    if not is_secret_name(name):
        return
    scheme = _SCHEME.match(value)
    yield value[scheme.end() :] if scheme else value
    if "cookie" in name.lower():
        yield from (part.partition("=")[2].strip() for part in value.split(";"))
