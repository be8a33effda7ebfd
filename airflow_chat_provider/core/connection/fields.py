"""The extras of a connection, in one table: the reader, the form in Airflow's UI and the documentation come from it.

Every Airflow component imports this module at its start, through ``provider_info``: so it imports next to nothing, and
what only some values need is imported where they are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from airflow_chat_provider.core.errors import InvalidConnection

DEFAULT_ENDPOINT = "/chat/completions"

_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # a token of RFC 9110
# Set for each request from what is sent; a fixed value could only be wrong.
_OWN_HEADERS = frozenset({"content-length", "content-encoding", "content-type", "transfer-encoding", "accept-encoding"})
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_MASKED = (
    "A value is masked in logs if its name contains key, token, auth, secret, password, credential, cookie or signature"
)


class _Wrong(Exception):
    """A value that an extra cannot have. Its words follow the name of the extra, as in "timeout must be ..."."""


def field_error(field: str, problem: str) -> InvalidConnection:
    """The error of one field of a connection; ``problem`` is the rest of a sentence that begins with its name."""
    return InvalidConnection(f"{field} {problem}", field=field)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise _Wrong("must be a single line of text")
    return value.strip()


def _ascii(value: object) -> str:
    text = _text(value)
    if not text.isascii():
        raise _Wrong("must be ASCII text")
    return text


def _auth(value: object) -> str:
    if value not in ("bearer", "api-key", "none"):
        raise _Wrong("must be one of bearer, api-key, none")
    return str(value)


def _seconds(value: object) -> float:
    try:
        number = float(str(value)) if not isinstance(value, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0 < number < math.inf:
        raise _Wrong("must be a number of seconds above 0")
    return number


def _count(value: object) -> int:
    """A whole number, which the form and templates also write as 4.0 or "4"; up to 18 digits are exact."""
    is_huge = isinstance(value, int) and abs(value) >= 10**18  # Python refuses to write the hugest out
    text = "" if isinstance(value, bool) or is_huge else str(value).strip()
    if not re.fullmatch(r"[1-9]\d{0,17}(\.0)?", text):
        raise _Wrong("must be a whole number above 0")
    return int(text.removesuffix(".0"))


def _object(value: object) -> dict[str, Any]:
    """A JSON object, or the text of one."""
    if isinstance(value, str):
        from airflow_chat_provider.core.json_text.nesting import loads

        try:
            value = loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise _Wrong("must be a JSON object of names and texts")
    for name, item in value.items():
        if isinstance(item, bool) or not isinstance(item, str | int | float) or not str(item).isprintable():
            raise _Wrong(f"must have a single line of text for {name[:64]!r}")
    return value


def _headers(value: object) -> dict[str, str]:
    found = {}
    for name, item in _object(value).items():
        if not re.fullmatch(_HEADER_NAME, name):
            raise _Wrong(f"must not contain {name[:64]!r}, which is not the name of a header")
        if name.lower() in _OWN_HEADERS:
            raise _Wrong(f"must not contain {name!r}: the provider sets it")
        if not str(item).isascii():
            raise _Wrong(f"must have ASCII text for {name[:64]!r}")
        found[name] = str(item).strip()
    return found


def _query(value: object) -> dict[str, str]:
    found = _object(value)
    if "" in found:
        raise _Wrong("must not contain a parameter without a name")
    return {name: str(item) for name, item in found.items()}


def _verify(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise _Wrong("must be true, false or the path of a CA file")
    text = _text(value)
    return text.lower() == "true" if text.lower() in ("true", "false") else text


def _proxy(value: object) -> str:
    from urllib.parse import urlsplit

    text = _text(value)
    try:
        parts = urlsplit(text)
        good = parts.scheme in _PROXY_SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # its words quote the URL, and so the password in it
        good = False
    if not good:
        raise _Wrong("must be a URL like http://proxy.example.com:3128")
    return text


def _endpoint(value: object) -> str:
    text = _text(value)
    if "://" in text or any(char in text for char in " ?#") or not text.isascii():
        raise _Wrong("must be a path like /chat/completions")
    return "/" + text.lstrip("/")


def _schema(value: object) -> str | dict[str, Any] | None:
    """The name, the path or the schema itself; None where requests are not checked."""
    if value == "none":
        return None
    if isinstance(value, str) and value.lstrip().startswith("{"):
        import json

        from airflow_chat_provider.core.json_text.nesting import DEPTH, TooDeep, fault, loads

        try:
            value = loads(value)
        except json.JSONDecodeError as error:
            raise _Wrong("must be JSON: {} at line {}, column {}".format(*fault(error))) from None
        except TooDeep:
            raise _Wrong(f"must not be nested deeper than {DEPTH} levels") from None
        except ValueError:
            raise _Wrong("must be JSON without numbers of thousands of digits") from None
    if not isinstance(value, str | dict):
        raise _Wrong("must be the name of a schema, the path of a .json file, a JSON Schema, or none")
    return value


def _prices(value: object) -> dict[str, Any]:
    """The prices by patterns of models; see core/cost/prices.py."""
    from airflow_chat_provider.core.cost.prices import read_prices
    from airflow_chat_provider.core.json_text.nesting import loads

    if isinstance(value, str):
        try:
            value = loads(value)
        except ValueError:
            raise _Wrong("must be a JSON object of prices") from None
    try:
        return read_prices(value)
    except ValueError as error:
        raise _Wrong(str(error)) from None


def _currency(value: object) -> str:
    text = _text(value).upper()
    if not re.fullmatch("[A-Z]{3}", text):
        raise _Wrong("must be the three letters of a currency, like USD")
    return text


def _amount(value: object) -> Any:
    """An amount of money, as a Decimal."""
    from airflow_chat_provider.core.cost.prices import read_amount

    found = read_amount(value)
    if found is None:
        raise _Wrong("must be an amount of money of 0 or more")
    return found


def _share(value: object) -> Any:
    """A part of 1, as a Decimal."""
    from airflow_chat_provider.core.cost.prices import read_amount

    found = read_amount(value)
    if found is None or found > 1:
        raise _Wrong("must be a number from 0 to 1")
    return found


def _tokens(value: object) -> int:
    return 0 if str(value).strip() in ("0", "0.0") and not isinstance(value, bool) else _whole(value)


def _whole(value: object) -> int:
    try:
        return _count(value)
    except _Wrong:
        raise _Wrong("must be a whole number of 0 or more") from None


class Field(NamedTuple):
    """One extra of a connection.

    ``label``, ``kind`` (a JSON type) and ``rule`` (further keywords of JSON Schema, and Airflow's ``section``) describe
    its field in the form.
    ``help`` is one line of Markdown, which does not name the default. ``read`` makes a given value what Settings has;
    ``default`` is what Settings has without one.
    """

    label: str
    kind: Literal["string", "number", "integer", "object"]
    help: str
    read: Callable[[object], Any]
    default: Any = None
    rule: Mapping[str, Any] = {}

    @property
    def shown_default(self) -> str:
        """The default as it is written in a connection; empty where there is none."""
        if self.default is None or isinstance(self.default, bool):
            return str(self.default).lower() if self.default is not None else ""
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


# A section of the form is closed until it is wanted. So the first fields are those that most connections need, and the
# two editors of JSON, which are large, are out of the way. Airflow shows no field at all if each has a section.
_REQUESTS = {"section": "Requests"}
_LIMITS = {"section": "Times and limits"}
_NETWORK = {"section": "Network"}
_COST = {"section": "Cost"}
_ABOVE_0 = {**_LIMITS, "minimum": 0}
_FROM_1 = {**_LIMITS, "minimum": 1}

FIELDS: Mapping[str, Field] = {
    "model": Field("Model", "string", "Used where neither the task nor its configuration names a model", _text),
    "auth": Field(
        "Authentication",
        "string",
        "How the API key is sent: as a `bearer` token, in an `api-key` header (Azure), or not at all (`none`)",
        _auth,
        "bearer",
        {"enum": ["bearer", "api-key", "none"]},
    ),
    "organization": Field("Organization", "string", "Sent as the header `OpenAI-Organization`", _ascii),
    "project": Field("Project", "string", "Sent as the header `OpenAI-Project`", _ascii),
    "endpoint": Field(
        "Endpoint",
        "string",
        "The path under the base URL",
        _endpoint,
        DEFAULT_ENDPOINT,
        {**_REQUESTS, "minLength": 1},
    ),
    "request_schema": Field(
        "Request schema",
        "string",
        "What requests are checked against: `2026-11`, `2023-12`, `open` (only what every server refuses is an error), "
        "the absolute path of a JSON Schema, or `none`",
        _schema,
        "2026-11",
        _REQUESTS,
    ),
    "headers": Field(
        "Headers",
        "object",
        f"A JSON object of headers, sent with each request. {_MASKED}",
        _headers,
        rule=_REQUESTS,
    ),
    "query": Field(
        "Query",
        "object",
        'A JSON object of query parameters, as `{"api-version": "..."}` for Azure; masked in logs as `headers` are',
        _query,
        rule=_REQUESTS,
    ),
    "timeout": Field(
        "Timeout", "number", "Seconds for one attempt, from connecting to the last byte", _seconds, 600.0, _ABOVE_0
    ),
    "connect_timeout": Field("Connect timeout", "number", "Seconds to connect", _seconds, 5.0, _ABOVE_0),
    "deadline": Field(
        "Deadline", "number", "Seconds for all attempts and the waits between them", _seconds, 1800.0, _ABOVE_0
    ),
    "stall_timeout": Field(
        "Stall timeout", "number", "Seconds between two chunks of a streamed answer", _seconds, 120.0, _ABOVE_0
    ),
    "max_attempts": Field("Attempts", "integer", "The most attempts that one call may take", _count, 3, _FROM_1),
    "max_response_bytes": Field(
        "Largest response",
        "integer",
        "Bytes that a response may have once it is decompressed",
        _count,
        64 << 20,
        _FROM_1,
    ),
    "prices": Field(
        "Prices",
        "object",
        "Prices per million tokens, by names of models or patterns, of which the most exact holds: "
        '`{"gpt-5.4-mini*": {"input": "0.25", "cached_input": "0.025", "output": "2.00"}}`',
        _prices,
        rule=_COST,
    ),
    "currency": Field(
        "Currency",
        "string",
        "The currency of the account, in three letters: that of `prices`, `max_cost` and every cost",
        _currency,
        "USD",
        {**_COST, "maxLength": 3},
    ),
    "batch_discount": Field(
        "Batch discount",
        "number",
        "The share of the price that the server's batch API takes off, from 0 to 1",
        _share,
        Decimal("0.5"),
        {**_COST, "minimum": 0, "maximum": 1},
    ),
    "max_total_tokens": Field(
        "Token limit",
        "integer",
        "The most tokens that a task may take, of all its requests and answers, unless it sets its own limit",
        _tokens,
        rule={**_COST, "minimum": 0},
    ),
    "max_cost": Field(
        "Cost limit",
        "number",
        "The most that a task may cost, in `currency`, unless it sets its own limit",
        _amount,
        rule={**_COST, "minimum": 0},
    ),
    "proxy": Field(
        "Proxy",
        "string",
        "An `http://`, `https://` or `socks5://` URL, instead of the environment's",
        _proxy,
        rule=_NETWORK,
    ),
    "verify": Field(
        "Verify TLS",
        "string",
        "`true`, `false`, or the path of a CA file or folder (PEM)",
        _verify,
        True,
        _NETWORK,
    ),
    "client_cert": Field("Client certificate", "string", "The path of a PEM file", _text, rule=_NETWORK),
    "client_key": Field(
        "Client key",
        "string",
        "The path of the certificate's key, if that is in another PEM file",
        _text,
        rule=_NETWORK,
    ),
}


def read_extras(extra: str) -> dict[str, Any]:
    """The extras that are set, by the names of Settings; InvalidConnection for an unknown or ill-typed one."""
    from airflow_chat_provider.core.json_text.nesting import loads

    try:
        values = loads(extra)
    except ValueError:
        raise field_error("extra", "is not JSON") from None
    if not isinstance(values, dict):
        raise field_error("extra", "is not a JSON object")
    # The form of the UI stores null, or an empty text, for each field that was left alone.
    return {name: read_extra(name, value) for name, value in values.items() if value not in (None, "")}


def read_extra(name: str, value: object) -> Any:
    """One extra as Settings holds it; raises InvalidConnection."""
    field = FIELDS.get(name)
    if field is None:
        raise field_error(name[:64], f"is not an extra of a chat connection; {_close(name)}")
    try:
        return field.read(value)
    except _Wrong as wrong:
        raise field_error(name, str(wrong)) from None


def _close(name: str) -> str:
    from airflow_chat_provider.core.spelling import close_to

    close = close_to(name, FIELDS)
    return f"did you mean {close[0]!r}?" if close else f"the extras are {', '.join(sorted(FIELDS))}"
