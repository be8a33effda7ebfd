"""Why a server refuses a request, by its own words: whether the request can be made in another form depends on it.

The patterns were collected from what servers were seen to send; where only one of them does, its name stands beside it.
They are texts, here and in ``core/server``: ``re`` compiles and keeps one that is needed, and most calls need none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.errors import ProtocolError, StatusError
from airflow_chat_provider.core.server.error_body import ServerError, failed_generation, inner_error, read_error
from airflow_chat_provider.core.server.verdict import is_cut, is_spoilt, judged_status
from airflow_chat_provider.core.types import JSON, JSONObject


class Why(Enum):
    """What the error of a reply is about."""

    FORM = "the server does not take this type of response_format"
    SCHEMA = "the server takes response_format, but not this schema, or not in this request"
    UNNAMED = "the server does not say"
    SPOILT = "one answer of the model could not be used"
    CUT = "one answer of the model could not be used, because the token limit cut it off"
    OTHER = "something else"


STEPS_DOWN = frozenset({Why.FORM, Why.SCHEMA, Why.UNNAMED})
"""After these, a schema may be given to the server in another form."""
_LOOKED_AT = 16_000  # characters of an error
_REFUSALS = (400, 422, 501)
# With these, an error has to name the form: 404 is OpenRouter's, 500 that of an engine that fails at a grammar.
_NAMED_REFUSALS = (*_REFUSALS, 200, 404, 500)  # 200: its error has no code
_OTHER_CODES = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",  # llama.cpp
        "string_above_max_length",
        "content_filter",
        "content_policy_violation",
        "data_inspection_failed",  # Alibaba
        "datainspectionfailed",
        "1301",  # Zhipu: unsafe
        "invalid_prompt",
        "model_not_found",
        "invalid_api_key",
        "arrearage",  # Alibaba: an account without money, as 400
    }
)
_OTHER_WORDS = (
    # Too long. An error about tokens is not about the form.
    r"(?i)\btokens?\b|context[ _-]?(?:length|window|size)|n_ctx|tokens_|_tokens"
    r"|(?:prompt|input|request|message|string)s? (?:is |are )?too l(?:ong|arge)|reduce (?:the )?(?:length|your prompt)"
    r"|(?:input|prompt|max|maximum)(?: model)? length"
    # Filtered.
    r"|content[ _-]?(?:filter|management|policy)|responsible ?ai|inappropriate|moderation|flagged|safety|unsafe"
    r"|sensitive|prohibited|violat|content exists risk|high risk|blocked by"
    # About the model, the account, or what the prompt holds beside text.
    r"|model[^.]{0,80}(?:not found|not exist|does ?n[o']t exist|unknown)|(?:no such|unknown|invalid) model"
    r"|api[ _-]?key|unauthori[sz]ed|authenticat|quota|balance|billing|\bcredits?\b|good standing"
    r"|\bimages?\b|\baudio\b|\bvideo\b|base64"
)
_FORM = (
    r"(?i)response[ _-]?format|json_schema|json_object|json[ -]mode|structured[ _-]?outputs?"
    r"|response_?(?:json_)?schema|response[ _]?mime[ _]?type|guided[ _](?:json|decoding|grammar)|output_config\.format"
)
_SCHEMA = (
    r"(?i)json schema|(?:invalid|this|your|the|provided|given|specified|unsupported|unrecogni[sz]ed) schema"
    r"|schema conversion|xgrammar|llguidance|\bgrammar|initialize samplers|too many states"
    r"|invalid format|required for format"  # Ollama
    r"|requested parameters"  # OpenRouter: no endpoint takes them
)
_TOOLS = r"(?i)\btools?\b|\bfunctions?\b|function_declarations"
_NOT_TAKEN = (
    r"(?i)not (?:\w+ )?(?:supported|available|implemented|enabled|permitted|allowed|accepted|recogni[sz]ed|valid)"
    r"|not (?:\w+ )?one of"
    r"|un(?:supported|available|recogni[sz]ed|known|expected)|does(?:n't| not) (?:support|accept|allow)"
    r"|(?:must|should) be|supported values|invalid (?:value|type)|extra|enabled only|only (?:enabled|supports?)"
    r"|disabled|expected"
)
# Words of an error that is about this one schema, or about what stands beside it in the request.
_THIS_SCHEMA = (
    r"(?i)invalid (?:json )?schema|(?:this|your|the|provided|given|specified) (?:json )?schema|schemas|json schema"
    r"|keyword|feature|grammar|additional_?properties|in context|(?:min|max)_?(?:length|items|imum|properties)"
    r"|\$(?:ref|defs|schema)|(?:any|one|all)of\b|json_schema[./\[]\w|\.schema\b|response_?(?:json_)?schema"
    r"|['\"`](?:pattern|format|enum|const|default|required|properties|items|title)['\"`]|recurs|nest"
    r"|too (?:many|large|deep|complex|long)|combin|\btools?\b|\bfunctions?\b|\bstream"
)
_UNKNOWN_FIELD = (
    r"(?i)additional_? ?propert|extra[ _](?:inputs?|fields?|propert\w{1,6}|param\w{0,12}|arg\w{0,12}|keys?|forbidden)"
    r"|(?:un(?:recogni[sz]ed|known|expected|supported)|invalid) (?:request )?"
    r"(?:arg\w{0,12}|fields?|names?|param\w{0,12}|keys?|keyword|propert\w{1,6}|options?)"
    r"|(?:arg\w{0,12}|fields?|param\w{0,12}|keys?|propert\w{1,6}|options?)(?: \S{1,100})? (?:is|are)?(?: ?not|n't) "
    r"(?:supported|permitted|allowed|recogni[sz]ed|valid|a valid)"
    r"|does(?:n't| not) support (?:\w{1,12} )?(?:arg|field|param|option)"
    r"|unevaluated propert|cannot find field|no such field|unknown_parameter|unsupported_parameter"
)
_FIELDS = (
    r"['\"`\u2018\u2019\u201c\u201d]\\?(?:#/|\$\.)?([A-Za-z_]\w*)[\w.\[\]/-]{0,100}\\?['\"`\u2019\u201d]",
    (
        r"(?i)(?:supplied|arg\w{0,12}|fields?|param\w{0,12}|propert\w{1,6}|keys?|options?|names?|supported|allowed|permitted)"
        r"(?=[ :=]{1,3}([A-Za-z_]\w*))"
    ),
    r"(?:^|[\s(,;'\"])(?:#/|\$\.|body[./]|request[./])?([A-Za-z_]\w*)(?:\.\w|\[|/\d)",
    r"(?:^|[;\n]\s{0,20}|#/|body\.)([A-Za-z_]\w*):",
)
# Words that these patterns also find in messages about other fields, although requests have fields of these names.
_ANYWHERE = frozenset({"type", "object", "input", "body", "error", "text", "not"})


def why_refused(reply: Reply, request: Mapping[str, Any]) -> Why:
    """What the error of ``reply`` is about.

    ``request`` is the user's, without the schema that this package added: a field that only we sent may be refused.
    """
    if not isinstance(reply.error, StatusError | ProtocolError) or reply.status is None:
        return Why.OTHER
    said, status = read_error(reply.body), judged_status(reply.status, reply.error.code)
    text, codes = _words(reply.body, said), said.codes | {str(reply.error.code).lower()}
    if status < 500 and is_spoilt(codes, text):
        return Why.CUT if is_cut(text, failed_generation(reply.body)) else Why.SPOILT
    if status not in _NAMED_REFUSALS or codes & _OTHER_CODES:
        return Why.OTHER
    if re.search(_FORM, text):
        return Why.FORM if re.search(_NOT_TAKEN, text) and not re.search(_THIS_SCHEMA, text) else Why.SCHEMA
    if re.search(_SCHEMA, text) and not (request.get("tools") and re.search(_TOOLS, text)):
        return Why.SCHEMA
    if names_field(text, request) or re.search(_OTHER_WORDS, text):
        return Why.OTHER
    return Why.UNNAMED if status in _REFUSALS else Why.OTHER


def refuses_unknown_field(body: JSON, request: JSONObject) -> bool:
    """Does an error complain about an unknown field without naming one of ``request``'s?"""
    text = _words(body, read_error(body))
    return re.search(_UNKNOWN_FIELD, text) is not None and not names_field(text, request)


def names_field(text: str, request: Mapping[str, Any]) -> bool:
    """Does a message name a field of the request, as servers do it: quoted, as a path, or before or after a colon?"""
    named = {found for pattern in _FIELDS for found in re.findall(pattern, text)} - _ANYWHERE
    return bool(named) and any(name in named for name, _ in _fields(request))


def _fields(value: object) -> Iterator[tuple[str, Any]]:
    """The name and value of each field at any depth."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        name, value = waiting.pop()
        if name:
            yield name, value
        if isinstance(value, Mapping):
            waiting.extend((str(key), item) for key, item in value.items())
        elif isinstance(value, list | tuple):
            waiting.extend(("", item) for item in value)


def _words(body: JSON, said: ServerError) -> str:
    """The message of an error, its codes and the parameter that it names; all texts of the body if it has no message.

    To be compared alone: a message may quote the request.
    """
    if isinstance(body, str):
        return body[:_LOOKED_AT]
    inner = inner_error(body)
    words = said.message or "\n".join(text for _, text in _fields(body) if isinstance(text, str))
    param, metadata = inner.get("param"), inner.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None  # OpenRouter: what the server behind it said
    more = (f"'{param[:200]}'" if isinstance(param, str) else "", raw[:_LOOKED_AT] if isinstance(raw, str) else "")
    return "\n".join(filter(None, (words[:_LOOKED_AT], *more, *sorted(said.codes))))
