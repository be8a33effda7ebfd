"""The extras of a connection: each with its reader, each error naming the extra and what it must be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from airflow_chat_provider.core.connection.base_url import field_error
from airflow_chat_provider.core.json_text.nesting import DEPTH, TooDeep, fault, loads
from airflow_chat_provider.core.spelling import close_to

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Set for each request from what is sent; a fixed value could only be wrong.
_OWN_HEADERS = frozenset({"content-length", "content-encoding", "content-type", "transfer-encoding", "accept-encoding"})


def read_extras(extra: str | None) -> dict[str, Any]:
    """The extras that are set, as Settings wants them; unknown and ill-typed ones are errors."""
    if not extra or not extra.strip():
        return {}
    try:
        values = loads(extra)
    except ValueError:
        raise field_error("extra", "is not JSON") from None
    if not isinstance(values, dict):
        raise field_error("extra", "is not a JSON object")
    # The form of the UI stores null, or an empty text, for each field that was left alone.
    return {name: read_extra(name, value) for name, value in values.items() if value not in (None, "")}


def read_extra(name: str, value: Any) -> Any:
    """One extra as Settings wants it."""
    reader = _READERS.get(name)
    if reader is None:
        close = close_to(name, _READERS)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(_READERS))}"
        raise field_error(name[:64], f"is no extra of a chat connection; {hint}")
    try:
        return reader(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise field_error(name, f"must be {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise TypeError("one line of text")
    return value.strip()


def _header_text(value: Any) -> str:
    text = _text(value)
    if not text.isascii():
        raise ValueError("ASCII text")
    return text


def _choice(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return str(value)

    return read


def _seconds(value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (ValueError, TypeError):
        number = -1.0
    if not 0 < number < math.inf:
        raise ValueError("a number of seconds above 0")
    return number


def _count(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[1-9]\d{0,17}(\.0)?", str(value).strip()):
        raise ValueError("a whole number above 0")
    return int(float(value)) if "." in str(value) else int(value)


def _texts(kind: str, name_ok: Callable[[str], Any]) -> Callable[[Any], dict[str, str]]:
    def read(value: Any) -> dict[str, str]:
        if isinstance(value, str):
            try:
                value = loads(value)
            except ValueError:
                value = None
        if not isinstance(value, dict):
            raise TypeError("a JSON object of texts")
        for name, item in value.items():
            if not name_ok(name):
                raise ValueError(f"without {name[:64]!r}, which is no {kind} that can be set here")
            if isinstance(item, bool) or not isinstance(item, str | int | float) or not str(item).isprintable():
                raise ValueError(f"an object whose {name[:64]!r} is one line of text")
            if kind == "header" and not str(item).isascii():
                raise ValueError(f"an object whose {name[:64]!r} is ASCII text")
        return {name: str(item).strip() if kind == "header" else str(item) for name, item in value.items()}

    return read


def _header_name(name: str) -> bool:
    return bool(_TOKEN.fullmatch(name)) and name.lower() not in _OWN_HEADERS


def _verify(value: Any) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, str):
        raise TypeError("true, false or the path of a CA file")
    return _text(value)


def _proxy(value: Any) -> str:
    text = _text(value)
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https", "socks5", "socks5h") and parts.hostname and parts.port != 0
    except ValueError:  # its words quote the URL, and so the password in it
        good = False
    if not good:
        raise ValueError("a URL like http://proxy.example.com:3128")
    return text


def _endpoint(value: Any) -> str:
    text = _text(value)
    if "://" in text or any(char in text for char in " ?#") or not text.isascii():
        raise ValueError("a path like /chat/completions")
    return "/" + text.lstrip("/")


def _schema(value: Any) -> Any:
    if value == "none":
        return None
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return loads(value)
        except json.JSONDecodeError as error:
            raise ValueError("JSON: {} at line {}, column {}".format(*fault(error))) from None
        except TooDeep:
            raise ValueError(f"nested no deeper than {DEPTH} levels") from None
    if not isinstance(value, str | dict):
        raise TypeError("the name of a schema, the path of a .json file, a JSON Schema, or none")
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "model": _text,
    "auth": _choice("bearer", "api-key", "none"),
    "organization": _header_text,
    "project": _header_text,
    "headers": _texts("header", _header_name),
    "query": _texts("parameter", bool),
    "endpoint": _endpoint,
    "request_schema": _schema,
    "timeout": _seconds,
    "connect_timeout": _seconds,
    "deadline": _seconds,
    "stall_timeout": _seconds,
    "max_attempts": _count,
    "max_response_bytes": _count,
    "proxy": _proxy,
    "verify": _verify,
    "client_cert": _text,
    "client_key": _text,
}
