"""The codes in an error's body, and its fields by one spelling of their names."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, NamedTuple

from airflow_chat_provider.core.server.verdict import http_status

LONGEST_CODE = 200  # characters
_LONGEST_TEXT = 4000  # characters of a message
_KEYS = 256  # of an object: an error has few
_NO_CODES = frozenset(
    {"error", "fail", "failed", "failure", "success", "ok", "none", "null", "0", "200", "about:blank"}
)
SLUG = re.compile(r"[^\s]{1,100}")
"""A text that is one word may be a code."""


class Code(NamedTuple):
    """``shown`` as the server wrote it, ``name`` to compare."""

    shown: str | int
    name: str


def names_of(value: dict[Any, Any]) -> dict[str, Any]:
    """An object by its names in one spelling, where two are one the first that has a value."""
    names: dict[str, Any] = {}
    for key, item in islice(value.items(), _KEYS):
        name = key.lower().replace("_", "").replace("-", "") if isinstance(key, str) else ""
        if names.get(name) is None:
            names[name] = item
    return names


def minimax(value: Any) -> tuple[str, Code] | None:
    """``base_resp``, which is in each answer of MiniMax's; its code 0 is success."""
    code = value.get("status_code") if isinstance(value, dict) else None
    if isinstance(code, bool) or not isinstance(code, str | int) or word_of(code) in ("", "0", "200"):
        return None
    text = value.get("status_msg")
    shown = code[:LONGEST_CODE] if isinstance(code, str) else code
    return text[:_LONGEST_TEXT] if isinstance(text, str) else "", Code(shown, f"minimax {word_of(code)}")


def code_of(field: str, value: Any) -> Code | None:
    """The code that a field of this name holds, if it holds one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    word = word_of(value).strip()
    if "://" in word or word.startswith("urn:"):  # RFC 9457: a type is a URI
        word = word.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    word = word.rpartition("#")[2]  # AWS: com.amazon.coral.service#ThrottlingException
    if not word or word.lower() in _NO_CODES or (field in ("status", "reason", "error") and not _is_code(word)):
        return None
    if field == "errorcode" and word.isdigit() and http_status(word) is None:
        return Code(value, f"error_code {word}")  # Baidu's are small numbers, which are other things elsewhere
    return Code(value if isinstance(value, int) else word, word.lower())


def _is_code(word: str) -> bool:
    return SLUG.fullmatch(word) is not None or http_status(word) is not None


def word_of(value: Any) -> str:
    """A text or a number, cut to a code's length; anything else is none."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return ""  # Python refuses to write the longest
    return str(value)[:LONGEST_CODE] if isinstance(value, str | int | float) else ""
