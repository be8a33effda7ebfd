"""What a server says of an error, read from the bodies of all the servers that speak this API.

There is no common shape: OpenAI's ``{"error": {"message", "type", "code"}}`` is one of many. So the body is walked from
its outside to its inside, and the names under which servers keep a message or a code are looked for at each level.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any, NamedTuple

from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.json_text.sanitize import sanitize
from airflow_chat_provider.core.server.error_code import LONGEST_CODE, SLUG, Code, code_of, minimax, names_of, word_of
from airflow_chat_provider.core.server.verdict import http_status

_LONGEST_TEXT = 4000  # characters of a message
_LONGEST_JSON = 1 << 16  # characters of a text that may be JSON in JSON
_LONGEST_OUTER = 120  # characters of an outer message that is shown before the inner one
_DEEPEST = 5
_ITEMS = 3  # of a list of errors

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
_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,300})</title", re.IGNORECASE)
_TITLE_IN = 4096  # characters of a page


class ServerError(NamedTuple):
    """What a server said: message, code (such that XCom can keep it), all codes and types in lower case to compare.

    ``status`` is the HTTP status that the codes stand for, where they stand for one.
    """

    message: str = ""
    code: str | int | None = None
    codes: frozenset[str] = frozenset()
    status: int | None = None


class _Found(NamedTuple):
    text: str = ""
    codes: tuple[Code, ...] = ()


_NOTHING = _Found()


def read_error(body: Any) -> ServerError:
    """The error in a body of any shape, or an empty one."""
    found = _of_page(body) if isinstance(body, str) else _read(body, _DEEPEST)
    code = found.codes[0].shown if found.codes else None
    statuses = (http_status(code.name) for code in found.codes)
    return ServerError(
        found.text,
        sanitize(code)[0] if code is not None else None,
        frozenset(code.name for code in found.codes),
        next((status for status in statuses if status is not None), None),
    )


def holds_error(body: Any) -> bool:
    """Does the body of a 2xx say that it is an error, or that one came with the answer?"""
    if isinstance(body, list) and body:
        return isinstance(body[0], dict) and holds_error(body[0])
    if not isinstance(body, dict):
        return False
    choices = body.get("choices")
    if is_error(body.get("error")) or minimax(body.get("base_resp")) is not None:
        return True
    if isinstance(choices, list) and choices:
        return any(is_error(choice.get("error")) for choice in choices if isinstance(choice, dict))
    names = names_of(body)
    has_code = any(code_of(name, names.get(name)) for name in ("code", "status", "statuscode"))
    return (
        names.get("object") == "error"
        or names.get("type") == "error"
        or names.get("success") is False
        or (has_code and any(isinstance(names.get(name), str) for name in _TEXTS))
        or any(names.get(name) for name in ("errors", "errorcode", "errcode", "errormessage", "errormsg", "fault"))
        or bool(names.get("detail"))
    )


def is_error(value: Any, depth: int = _DEEPEST) -> bool:
    """Does what stands under ``error`` say anything? Servers write null, {}, false or code 0 beside a good answer."""
    if isinstance(value, dict):
        if value.get("code") in (200, "200", "success", "ok") and not isinstance(value.get("code"), bool):
            return False
        return depth > 0 and any(is_error(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth > 0 and any(is_error(item, depth - 1) for item in value)
    return bool(value) and value != "0"


def _read(value: Any, depth: int) -> _Found:
    if depth == 0:
        return _NOTHING
    if isinstance(value, str):
        inner = _parsed(value)
        return _Found(value[:_LONGEST_TEXT]) if inner is None else _read(inner, depth)
    if isinstance(value, list):
        return _all(_read_item(item, depth - 1) for item in value[:_ITEMS])
    return _read_object(value, depth) if isinstance(value, dict) else _NOTHING


def _read_item(item: Any, depth: int) -> _Found:
    """One of several errors; of validation details the place and the complaint, never the ``input`` that they quote."""
    if not isinstance(item, dict) or "loc" not in item:
        return _read(item, depth)
    place = ".".join(map(word_of, item["loc"][:20])) if isinstance(item["loc"], list) else ""
    said = item.get("msg") or item.get("message")
    return _Found(": ".join(filter(None, (place, word_of(said)[:_LONGEST_TEXT]))))


def _all(items: Iterable[_Found]) -> _Found:
    found = [item for item in items if item.text or item.codes]
    texts = dict.fromkeys(item.text for item in found if item.text)
    return _Found("; ".join(texts), tuple(code for item in found for code in item.codes))


def _read_object(value: dict[Any, Any], depth: int) -> _Found:
    names = names_of(value)
    if isinstance(names.get("choices"), list) and names["choices"]:  # all else in a completion is none of the error's
        names = {name: names[name] for name in ("error", "baseresp", "choices") if name in names}
    own = _own(names)
    inner = [_part(name, names, depth - 1) for name in _WRAPPERS]
    reasons = [_part(name, names, depth - 1) for name in _REASONS]
    codes = [found.codes for found in (*inner, own, *reasons)]
    texts = [own.text, *(found.text for found in (*inner, *reasons))]
    return _Found(_joined(texts), tuple(code for some in codes for code in some))


def _own(names: Mapping[str, Any]) -> _Found:
    """What stands in an object itself."""
    codes = [code for name in _CODES if (code := code_of(name, names.get(name))) is not None]
    error, texts = names.get("error"), [names.get("title"), *_texts(names)]
    if isinstance(error, str) and _parsed(error) is None:
        slug = SLUG.fullmatch(error) is not None
        if slug and (any(texts) or "_" in error) and (code := code_of("error", error)) is not None:
            codes.append(code)  # OAuth, and many others: the text is in another field
        if not slug or not any(texts):
            texts.insert(1, error)
    return _Found(_joined([text for text in texts if isinstance(text, str)]), tuple(codes))


def _texts(names: Mapping[str, Any]) -> Iterator[str]:
    """The message, and what says more."""
    for group in (_TEXTS, _MORE_TEXTS):
        for name in group:
            value = names.get(name)
            if isinstance(value, str) and value.strip() and _parsed(value) is None:
                if name == "reason" and SLUG.fullmatch(value):
                    continue
                yield value[:_LONGEST_TEXT]
                break


def _part(name: str, names: Mapping[str, Any], depth: int) -> _Found:
    """What stands in a part of an object."""
    value = names.get(name)
    if name == "baseresp":
        found = minimax(value)
        return _Found(found[0], (found[1],)) if found is not None else _NOTHING
    if name == "choices":
        errors = (choice.get("error") for choice in _dicts(value) if is_error(choice.get("error")))
        return _read({"error": next(errors, None)}, depth)
    if name == "metadata":
        value = names_of(value).get("raw") if isinstance(value, dict) else None
        return _of_page(value, depth) if isinstance(value, str) else _read(value, depth)
    if name == "details":  # of Google's lists the codes: their texts are help pages
        return _Found(codes=_read(value, depth).codes if isinstance(value, list) else ())
    if name == "errors" and isinstance(value, dict):
        return _read(value, depth) if _texts_in(value) else _of_fields(value, depth)
    if isinstance(value, str) and _parsed(value) is None:
        return _NOTHING  # it stands in the object itself
    return _read(value, depth)


def _texts_in(value: dict[Any, Any]) -> bool:
    names = names_of(value)
    return any(names.get(name) for name in (*_TEXTS, *_WRAPPERS))


def _of_fields(value: dict[Any, Any], depth: int) -> _Found:
    """``{"field": ["complaint"]}``."""
    items = ((key, _read(item, depth).text) for key, item in islice(value.items(), _ITEMS))
    return _Found("; ".join(f"{key}: {text}" for key, text in items if text and isinstance(key, str)))


def _joined(texts: Iterable[str]) -> str:
    """The outer message with the inner one that it lacks; the inner one first where the outer one is long."""
    found = list(dict.fromkeys(" ".join(text.split()) if len(text) < _LONGEST_OUTER else text for text in texts))
    found = [text for text in found if text.strip()]
    kept = [
        text
        for text in found
        if len(found) == 1
        or not (text.lower() in _PHRASES or any(text is not one and text.lower() in one.lower() for one in found))
    ] or found[:1]
    if len(kept) > 1 and len(kept[0]) > _LONGEST_OUTER:
        kept = [*kept[1:], kept[0]]
    last = len(kept[:_ITEMS]) - 1
    return ": ".join(text if at == last else text.rstrip(" .:") for at, text in enumerate(kept[:_ITEMS]))[
        :_LONGEST_TEXT
    ]


def _of_page(text: str, depth: int = _DEEPEST) -> _Found:
    """A body that is no JSON: the events of a stream, a web page, or words."""
    begin = text[:_LONGEST_JSON].lstrip("\ufeff \t\r\n")
    if begin.startswith(("data:", "event:", "id:", "retry:", ":")):
        return _of_events(begin, depth)
    if begin.startswith("<"):
        title = _TITLE.search(begin[:_TITLE_IN])
        return _Found(" ".join(title[1].split())) if title else _NOTHING
    if begin.startswith(("{", "[")):
        inner = _parsed(begin)
        return _read(inner, depth) if inner is not None else _NOTHING
    return _Found(begin[:_LONGEST_TEXT].rstrip()) if "\ufffd" not in begin[:LONGEST_CODE] else _NOTHING


def _of_events(text: str, depth: int) -> _Found:
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


def _parsed(text: str) -> Any:
    """The object or list that a text is; else None."""
    if text[:1] not in ("{", "[") or len(text) > _LONGEST_JSON:
        return None
    try:
        return loads(text)
    except ValueError:
        return None


def _dicts(value: Any) -> list[dict[Any, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
