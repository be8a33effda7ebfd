"""What a server says of an error, read from the bodies of all the servers that speak this API.

There is no common shape: OpenAI's ``{"error": {"message", "type", "code"}}`` is one of many. So the body is walked from
its outside to its inside, and at each level the names are looked for under which servers keep a message or a code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import islice
from typing import NamedTuple

from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.server.verdict import http_status
from airflow_chat_provider.core.types import JSON, JSONObject

_LONGEST_TEXT = 4000  # characters of a message
_LONGEST_CODE = 200  # characters
_LONGEST_JSON = 1 << 16  # characters of a text that may be JSON in JSON
_LONGEST_OUTER = 120  # characters of an outer message that is shown before the inner one
_DEEPEST = 5  # levels
_ITEMS = 3  # of a list of errors
_KEYS = 256  # of an object: an error has few

# Names are compared without case, '_' and '-': error_msg, errorMsg and ErrorMsg are one.
_TEXTS = ("message", "msg", "errormessage", "errormsg", "errmsg", "statusmsg", "faultstring")
"""Where servers keep the message. status_msg: MiniMax. error_msg: Baidu. faultstring: Apigee."""
_MORE_TEXTS = ("detail", "errordescription", "description", "reason")
"""Where they say more. detail: FastAPI and RFC 9457. error_description: OAuth."""
_CODES = ("code", "errorcode", "errcode", "statuscode", "type", "errortype", "status", "reason")
"""Where they keep the code, the most telling first. errorcode: Baidu, Apigee. status: Gemini. reason: Novita."""
_WRAPPERS = ("error", "errors", "fault", "detail", "baseresp", "response", "choices")
"""What holds the error itself, so that its code comes before the code of what is around it."""
_REASONS = ("message", "metadata", "innererror", "details")
"""What holds the reason behind an error. metadata.raw: OpenRouter. innererror: Azure. details: Google."""
_PHRASES = frozenset(status.phrase.lower() for status in HTTPStatus)
_TITLE = r"(?i)<title[^>]{0,100}>([^<]{1,300})</title"
_TITLE_IN = 4096  # characters of a page
_NO_CODES = frozenset(
    {"error", "fail", "failed", "failure", "success", "ok", "none", "null", "0", "200", "about:blank"}
)
_SLUG = r"[^\s]{1,100}"  # a text that is one word may be a code


class ServerError(NamedTuple):
    """What a server said: its message, and its code in a form that XCom can keep.

    ``codes`` are all codes and types, in lower case to compare. ``status`` is the HTTP status that they stand for.
    """

    message: str = ""
    code: str | int | None = None
    codes: frozenset[str] = frozenset()
    status: int | None = None


class _Code(NamedTuple):
    """``shown`` as the server wrote it, ``name`` to compare."""

    shown: str | int
    name: str


class _Found(NamedTuple):
    text: str = ""
    codes: tuple[_Code, ...] = ()


_NOTHING = _Found()


def read_error(body: JSON) -> ServerError:
    """The error in a body of any shape; all its fields are empty where none is found."""
    found = _of_page(body) if isinstance(body, str) else _read(body, _DEEPEST)
    code = found.codes[0].shown if found.codes else None
    statuses = (http_status(code.name) for code in found.codes)
    return ServerError(
        found.text,
        sanitize(code)[0] if code is not None else None,
        frozenset(code.name for code in found.codes),
        next((status for status in statuses if status is not None), None),
    )


def holds_error(body: JSON) -> bool:
    """Does the body of a 2xx say that it is an error, or that one came with the answer?"""
    if isinstance(body, list) and body:
        return isinstance(body[0], dict) and holds_error(body[0])
    if not isinstance(body, dict):
        return False
    if "error" in body and is_error(body["error"]):
        return True
    if "base_resp" in body and _minimax(body["base_resp"]) is not None:
        return True
    choices = body.get("choices")
    if isinstance(choices, list) and choices:  # its other fields are not looked at: vendors add some
        return any(isinstance(choice, dict) and is_error(choice.get("error")) for choice in choices)
    names = _names_of(body)
    has_code = any(_code_of(name, names.get(name)) for name in ("code", "status", "statuscode"))
    return (
        names.get("object") == "error"
        or names.get("type") == "error"
        or names.get("success") is False
        or (has_code and any(isinstance(names.get(name), str) for name in _TEXTS))
        or any(names.get(name) for name in ("errors", "errorcode", "errcode", "errormessage", "errormsg", "fault"))
        or bool(names.get("detail"))
    )


def is_error(value: JSON, depth: int = _DEEPEST) -> bool:
    """Does what stands under ``error`` say anything? Servers write null, {}, false or code 0 beside a good answer."""
    if isinstance(value, dict):
        if value.get("code") in (200, "200", "success", "ok") and not isinstance(value.get("code"), bool):
            return False
        return depth > 0 and any(is_error(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth > 0 and any(is_error(item, depth - 1) for item in value)
    return bool(value) and value != "0"


def inner_error(body: JSON) -> JSONObject:
    """The object that says what is wrong: the one under ``error``, else the body itself, else an empty one.

    Of a list of errors, as Google sends it, the first.
    """
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error")
    return error if isinstance(error, dict) else body


def failed_generation(body: JSON) -> str:
    """The model's answer that the server could not use, where it shows it (Groq); else an empty text."""
    found = inner_error(body).get("failed_generation")
    return found if isinstance(found, str) else ""


def _read(value: JSON, depth: int) -> _Found:
    if depth == 0:
        return _NOTHING
    if isinstance(value, str):
        inner = _parsed(value)
        return _Found(value[:_LONGEST_TEXT]) if inner is None else _read(inner, depth)
    if isinstance(value, list):
        found = [_read_item(item, depth - 1) for item in value[:_ITEMS]]
        texts = dict.fromkeys(item.text for item in found if item.text)
        return _Found("; ".join(texts), tuple(code for item in found for code in item.codes))
    return _read_object(value, depth) if isinstance(value, dict) else _NOTHING


def _read_item(item: JSON, depth: int) -> _Found:
    """One of several errors. Of FastAPI's validation details, the place and the complaint; never the ``input``."""
    if not isinstance(item, dict) or "loc" not in item:
        return _read(item, depth)
    place = ".".join(map(_word_of, item["loc"][:20])) if isinstance(item["loc"], list) else ""
    said = item.get("msg") or item.get("message")
    return _Found(": ".join(filter(None, (place, _word_of(said)[:_LONGEST_TEXT]))))


def _read_object(value: JSONObject, depth: int) -> _Found:
    names = _names_of(value)
    if isinstance(names.get("choices"), list) and names["choices"]:  # the rest is not about the error
        names = {name: names[name] for name in ("error", "baseresp", "choices") if name in names}
    own = _own(names)
    inner = [_part(name, names, depth - 1) for name in _WRAPPERS]
    reasons = [_part(name, names, depth - 1) for name in _REASONS]
    codes = [found.codes for found in (*inner, own, *reasons)]
    texts = [own.text, *(found.text for found in (*inner, *reasons))]
    return _Found(_joined(texts), tuple(code for some in codes for code in some))


def _own(names: JSONObject) -> _Found:
    """What an object says in its own fields, not in objects within it."""
    codes = [code for name in _CODES if (code := _code_of(name, names.get(name))) is not None]
    error, texts = names.get("error"), [names.get("title"), *_texts(names)]
    if isinstance(error, str) and _parsed(error) is None:
        slug = re.fullmatch(_SLUG, error) is not None
        if slug and (any(texts) or "_" in error) and (code := _code_of("error", error)) is not None:
            codes.append(code)  # OAuth, and many others: the text is in another field
        if not slug or not any(texts):
            texts.insert(1, error)
    return _Found(_joined([text for text in texts if isinstance(text, str)]), tuple(codes))


def _texts(names: JSONObject) -> Iterator[str]:
    """The message, and what says more."""
    for group in (_TEXTS, _MORE_TEXTS):
        for name in group:
            value = names.get(name)
            if isinstance(value, str) and value.strip() and _parsed(value) is None:
                if name == "reason" and re.fullmatch(_SLUG, value):
                    continue
                yield value[:_LONGEST_TEXT]
                break


def _part(name: str, names: JSONObject, depth: int) -> _Found:
    """What the value under ``name`` says."""
    value = names.get(name)
    if name == "baseresp":
        return _minimax(value) or _NOTHING
    if name == "choices":
        errors = [item.get("error") for item in value if isinstance(item, dict)] if isinstance(value, list) else []
        return _read({"error": next(filter(is_error, errors), None)}, depth)
    if name == "metadata":
        value = _names_of(value).get("raw") if isinstance(value, dict) else None
        return _of_page(value, depth) if isinstance(value, str) else _read(value, depth)
    if name == "details":  # only the codes of Google's lists: their texts are help pages
        return _Found(codes=_read(value, depth).codes if isinstance(value, list) else ())
    if name == "errors" and isinstance(value, dict):
        inner = _names_of(value)
        if any(inner.get(text) for text in (*_TEXTS, *_WRAPPERS)):
            return _read(value, depth)
        complaints = [(key, _read(item, depth).text) for key, item in islice(value.items(), _ITEMS)]
        return _Found("; ".join(f"{key}: {text}" for key, text in complaints if text))  # {"field": ["complaint"]}
    if isinstance(value, str) and _parsed(value) is None:
        return _NOTHING  # it stands in the object itself
    return _read(value, depth)


def _joined(texts: Iterable[str]) -> str:
    """The outer message and the inner ones, without those that add nothing. A long outer message comes last."""
    found = list(dict.fromkeys(" ".join(text.split()) if len(text) < _LONGEST_OUTER else text for text in texts))
    found = [text for text in found if text.strip()]
    kept = []
    for text in found:
        said_elsewhere = any(text is not other and text.lower() in other.lower() for other in found)
        if text.lower() not in _PHRASES and not said_elsewhere:
            kept.append(text)
    kept = kept or found[:1]
    if len(kept) > 1 and len(kept[0]) > _LONGEST_OUTER:
        kept = [*kept[1:], kept[0]]
    *before, last = kept[:_ITEMS] or [""]
    return ": ".join([*(text.rstrip(" .:") for text in before), last])[:_LONGEST_TEXT]


def _of_page(text: str, depth: int = _DEEPEST) -> _Found:
    """What a text says: the events of a stream, a web page, JSON in a text, or words."""
    begin = text[:_LONGEST_JSON].lstrip("\ufeff \t\r\n")
    if begin.startswith(("data:", "event:", "id:", "retry:", ":")):
        return _of_events(begin, depth)
    if begin.startswith("<"):
        title = re.search(_TITLE, begin[:_TITLE_IN])
        return _Found(" ".join(title[1].split())) if title else _NOTHING
    if begin.startswith(("{", "[")):
        inner = _parsed(begin)
        return _read(inner, depth) if inner is not None else _NOTHING
    return _Found(begin[:_LONGEST_TEXT].rstrip()) if "\ufffd" not in begin[:_LONGEST_CODE] else _NOTHING


def _of_events(text: str, depth: int) -> _Found:
    """The first event that is an error."""
    is_named = False
    for line in text.splitlines():
        field, _, value = line.partition(":")
        if field == "event":
            is_named = value.strip() == "error"
        inner = _parsed(value.strip()) if field == "data" else None
        if inner is not None and (holds_error(inner) or is_named):
            return _read(inner, depth)
        if field == "data" and is_named and value.strip():
            return _Found(value.strip()[:_LONGEST_TEXT])
    return _NOTHING


def _parsed(text: str) -> JSON:
    """The object or list that a text is; None for any other text."""
    if text[:1] not in ("{", "[") or len(text) > _LONGEST_JSON:
        return None
    try:
        value: JSON = loads(text)
    except ValueError:
        return None
    return value


def _names_of(value: JSONObject) -> JSONObject:
    """An object by its names in one spelling. Of two names that are one, the first that has a value counts."""
    names: JSONObject = {}
    for key, item in islice(value.items(), _KEYS):
        name = key.lower().replace("_", "").replace("-", "")
        if names.get(name) is None:
            names[name] = item
    return names


def _minimax(value: JSON) -> _Found | None:
    """The error in ``base_resp``, which each answer of MiniMax's has; there, code 0 is success."""
    if not isinstance(value, dict):
        return None
    code, text = value.get("status_code"), value.get("status_msg")
    if isinstance(code, bool) or not isinstance(code, str | int) or _word_of(code) in ("", "0", "200"):
        return None
    shown = code[:_LONGEST_CODE] if isinstance(code, str) else code
    return _Found(text[:_LONGEST_TEXT] if isinstance(text, str) else "", (_Code(shown, f"minimax {_word_of(code)}"),))


def _code_of(field: str, value: JSON) -> _Code | None:
    """The code that a field of this name holds; None for words, and for what says that nothing is wrong."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    word = _word_of(value).strip()
    if "://" in word or word.startswith("urn:"):  # RFC 9457: a type is a URI
        word = word.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    word = word.rpartition("#")[2]  # AWS: com.amazon.coral.service#ThrottlingException
    if not word or word.lower() in _NO_CODES:
        return None
    if field in ("status", "reason", "error") and not re.fullmatch(_SLUG, word) and http_status(word) is None:
        return None  # a sentence
    if field == "errorcode" and word.isdigit() and http_status(word) is None:
        return _Code(value, f"error_code {word}")  # Baidu's are small numbers, which are other things elsewhere
    return _Code(value if isinstance(value, int) else word, word.lower())


def _word_of(value: JSON) -> str:
    """A text or a number, cut to a code's length; anything else is an empty text."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return ""  # Python refuses to write an integer of more than 4,300 digits
    return str(value)[:_LONGEST_CODE] if isinstance(value, str | int | float) else ""
