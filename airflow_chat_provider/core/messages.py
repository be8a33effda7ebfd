"""Lists of messages, and what their parts say: texts, tool calls, and a reply as part of the next request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, fault, loads
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.servers import ANSWER_PARTS, Server, server_at
from airflow_chat_provider.core.types import JSON, JSONObject

_TEXTS = ("text", "output_text")  # the second is the Responses API's, which gateways have handed on
_FENCE = r"```[a-zA-Z]*"
# What closes a model's thoughts, where its server leaves them in the text. The opening tag is often not there: the
# chat template has written it at the end of the prompt.
_CLOSINGS = (
    "</think>",  # DeepSeek-R1, Qwen3, MiniMax
    "</thinking>",  # Claude's and Nova's habit
    "</thought>",  # Gemini's and Gemma's habit
    "</reasoning>",  # fine-tuned models
    "[/THINK]",  # Magistral
    "</seed:think>",  # Seed-OSS
    "<|channel|>final<|message|>",  # gpt-oss, where the server does not read its channels
    "\u25c1/think\u25b7",  # Kimi-VL
)


def text_of(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list. Thinking and references are left out."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type", "text") in _TEXTS]
    return "".join(text for text in texts if isinstance(text, str))


def parsed(text: str) -> tuple[Any, str | None]:
    """The JSON value in an answer's text and None; or None and why there is no JSON.

    The JSON may follow the model's thoughts, and may stand in a Markdown fence. The reason names a position and quotes
    nothing.
    """
    value, where = _loaded(text)
    for rest in _after_thoughts(text) if where is not None else ():
        found, why = _loaded(rest)
        if why is None:
            return found, None
        where = f"{why}, after its thoughts"
    return value, where


def _loaded(text: str) -> tuple[Any, str | None]:
    try:
        return loads(_unfenced(text)), None
    except json.JSONDecodeError as error:
        return None, "line {1}, column {2} of {0} characters".format(len(text), *fault(error)[1:])
    except TooDeep:
        return None, f"nested too deep: {LEVELS}, in {len(text)} characters"
    except ValueError:
        return None, f"a number with too many digits, in {len(text)} characters"


def _after_thoughts(text: str) -> Iterator[str]:
    """The text after the first closing tag, then after the last: thoughts and answers may quote the tag."""
    found = [(at, tag) for tag in _CLOSINGS if (at := text.find(tag)) >= 0]
    if not found:
        return
    first, tag = min(found)
    last = text.rfind(tag)
    yield text[first + len(tag) :]
    if last != first:
        yield text[last + len(tag) :]


def _unfenced(text: str) -> str:
    """The text inside of the Markdown fence, if there is one.

    A pattern with wildcards would be slow: models repeat newlines.
    """
    fence, _, rest = text.strip().partition("\n")
    return rest.removesuffix("```") if rest.endswith("```") and re.fullmatch(_FENCE, fence.rstrip()) else text


# What belongs to a call beside its function, and has to be sent back with it: Gemini refuses a call whose thought
# signature is missing, and LiteLLM keeps the signature in fields of its own.
_KEPT = ("extra_content", "provider_specific_fields", "thought_signature", "thoughtSignature")
# How models write calls. Where such a mark is in the text, the server did not read the call.
_MARKS = (
    "<tool_call>",  # Qwen, Hermes
    "<function=",  # Llama 3, Qwen3-Coder
    "<function_call>",  # GLM's and others' habit
    "[TOOL_CALLS]",  # Mistral
    "<|python_tag|>",  # Llama 3
    "<|tool_call",  # Kimi K2, Granite, Gemma
    "<\uff5ctool\u2581call",  # DeepSeek
    "<minimax:tool_call>",  # MiniMax
)
_OWN_KINDS = ("builtin_function",)  # Moonshot's $web_search, whose function stands under "function" all the same


class Called(NamedTuple):
    """A tool call by its parts, as they came. ``doubt`` says so if the ``id`` was made up here."""

    id: str
    kind: str
    function: JSONObject
    raw: JSONObject
    doubt: str | None = None

    @property
    def name(self) -> str:
        name = self.function.get("name")
        return name.strip() if isinstance(name, str) else ""

    @property
    def arguments(self) -> JSON:
        """A custom tool's ``input`` is text of any form."""
        return self.function.get("arguments", self.function.get("input"))


def called(message: Mapping[str, JSON]) -> Iterator[Called]:
    """The calls in a message's ``tool_calls``, each with a unique id.

    A missing or repeated id is replaced by one that is computed from the call, so that the same message always gets the
    same ids. It has nine letters and digits, because Mistral takes no other ids.
    """
    calls = message.get("tool_calls")
    raws = [raw for raw in calls if isinstance(raw, dict)] if isinstance(calls, list | tuple) else []
    given = {identity for raw in raws if (identity := _id(raw))}
    used: set[str] = set()
    for number, raw in enumerate(raws):
        kind, function = _function(raw)
        name = own = _id(raw)
        while not name or name in used or (name != own and name in given):
            seed = f"{number} {name} {function.get('name')} {as_text(function.get('arguments'))}"
            name = f"c{crc32(seed.encode('utf-8', 'replace')):08x}"
        used.add(name)
        why = f"has {'no id of its own' if own else 'no id'}: it is called {name} here and in messages"
        yield Called(name, kind, function, raw, why if name != own else None)


def is_unread(text: str) -> bool:
    """Does the text hold a tool call that the server did not recognise?"""
    return any(mark in text for mark in _MARKS)


def requested(message: Mapping[str, JSON]) -> list[JSONObject]:
    """A message's tool calls in the form of a request. A call without a name and without arguments is left out."""
    return [_requested(call) for call in called(message) if call.name or call.arguments]


def requested_function(function: JSON) -> JSONObject | None:
    """The deprecated ``function_call`` in the form of a request; None if it calls nothing."""
    if not isinstance(function, dict) or not (function.get("name") or function.get("arguments")):
        return None
    name = function.get("name")
    return {"name": name if isinstance(name, str) else "", "arguments": as_text(function.get("arguments"))}


def read_arguments(arguments: JSON) -> tuple[Any, str | None]:
    """A function's arguments, and their form if it was not JSON text. Raises ValueError and TypeError.

    Null, an empty text and an empty list (some languages cannot tell it from an object) mean no arguments.
    """
    value, doubt = arguments, None
    if isinstance(arguments, str) and arguments.strip():
        value = loads(arguments)
        if isinstance(value, str):
            value, doubt = _twice(value)
    elif isinstance(arguments, dict):
        doubt = "came as an object, not as JSON text"
    elif arguments is not None and not isinstance(arguments, str | list):
        raise TypeError
    return ({} if value in (None, "", []) or (isinstance(value, str) and not value.strip()) else value), doubt


def how_arguments_came(arguments: JSON) -> str | None:
    """The form in which arguments came, if it was not JSON text; None for JSON text and for what cannot be read."""
    try:
        return read_arguments(arguments)[1]
    except (ValueError, TypeError):
        return None


def _twice(text: str) -> tuple[Any, str | None]:
    try:
        value = loads(text) if text.strip() else {}
    except ValueError:
        return text, None
    return (value, "came as JSON text within JSON text") if isinstance(value, dict) else (text, None)


def as_text(arguments: JSON) -> str:
    """Arguments in the form of a request: the JSON text of an object. Text that is not JSON is left as it is."""
    try:
        value, doubt = read_arguments(arguments)
    except (ValueError, TypeError):
        return arguments if isinstance(arguments, str) else _dump(arguments)
    return arguments if isinstance(arguments, str) and doubt is None and value else _dump(value)


def tool_answer(call_id: str | None, name: str, content: str) -> JSONObject:
    """The message that answers a tool call, or a function call of the older kind, which has no id."""
    if call_id is None:
        return {"role": "function", "name": name, "content": content}
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _dump(value: JSON) -> str:
    return json.dumps(sanitize(value)[0], ensure_ascii=False)  # not NaN, nor a number of thousands of digits


def _id(raw: JSONObject) -> str:
    name = raw.get("id")
    return str(name) if isinstance(name, str | int) and not isinstance(name, bool) else ""


def _function(raw: JSONObject) -> tuple[str, JSONObject]:
    """The kind of a call and its function, told by its content: its ``type`` may be null, empty, "null" or missing."""
    kind = raw.get("type")
    for own in (kind if isinstance(kind, str) else "", "function", "custom"):
        function = raw.get(own)
        if isinstance(function, dict):
            return own, function
    return "function", raw if isinstance(raw.get("name"), str) else {}


def _requested(call: Called) -> JSONObject:
    kept = {name: call.raw[name] for name in _KEPT if call.raw.get(name)}
    if call.kind == "custom":
        text = "" if call.arguments is None else call.arguments
        function = {"name": call.name, "input": text if isinstance(text, str) else _dump(text)}
        return {"id": call.id, "type": "custom", "custom": function, **kept}
    inner = {name: call.function[name] for name in _KEPT if call.function is not call.raw and call.function.get(name)}
    kind = call.raw.get("type")
    return {
        "id": call.id,
        "type": kind if kind in _OWN_KINDS else "function",
        "function": {"name": call.name, "arguments": as_text(call.arguments), **inner},
        **kept,
    }


# What other servers' assistant messages have, and want back: DeepSeek and Kimi answer 400 to tool results whose calls
# have lost their reasoning, Gemini to calls without their thought signature.
_REASONING = (
    "reasoning_content",  # DeepSeek, Kimi, Qwen, GLM, LiteLLM, llama.cpp
    "reasoning",  # vLLM, Groq, Cerebras, OpenRouter, Ollama
    "reasoning_details",  # OpenRouter, MiniMax
    "thinking",  # Ollama's own
    "thinking_blocks",  # LiteLLM: Anthropic's signed blocks
    "reasoning_text",  # GitHub Copilot
    "reasoning_opaque",  # GitHub Copilot
    "extra_content",  # Gemini: thought signatures
    "provider_specific_fields",  # LiteLLM: the same
    "images",  # OpenRouter
)
_FIELDS = ("content", "name", "refusal", "audio", *_REASONING)
_FLAGS = ("prefix", "partial")


def conversation_message(message: JSONObject) -> JSONObject:
    """A reply's message in the form of a request: the fields that requests have, if they have a value.

    Reasoning is kept. Tool calls get the form that requests take, whatever form they came in.
    """
    turn: JSONObject = {"role": "assistant"}
    for name in _FIELDS:
        value = message.get(name)
        if value is None or value in ([], {}) or (name in ("name", "refusal") and not isinstance(value, str)):
            continue  # servers send anything
        if name == "audio":
            if isinstance(value, dict) and isinstance(value.get("id"), str):
                turn["audio"] = {"id": value["id"]}
        else:
            turn[name] = _content(value) if name == "content" and not isinstance(value, str) else value
    if message.get("tool_calls") and (calls := requested(message)):
        turn["tool_calls"] = calls
    if function_call := requested_function(message.get("function_call")):
        turn["function_call"] = function_call
    return _spoken(turn)


def rewritten(message: JSONObject) -> Iterator[str]:
    """Warnings about each way in which ``messages`` will differ from the reply's body."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    if not all(_is_part(part) or text_of([part]) for part in parts) and _content(content) != content:
        yield "Read the answer's other parts from body: messages holds only its text"
    for number, call in enumerate(called(message)):
        if call.kind != "custom" and (how := how_arguments_came(call.arguments)):
            call_path = f"choices[0].message.tool_calls[{number}]"
            yield f"messages holds {call_path} in the form that requests take: its arguments {how}"


def _content(content: JSON) -> JSON:
    """An answer's content as text, or as a list if it has other parts, too. Any other value becomes JSON text."""
    if isinstance(content, list):
        # A list of texts is one text: many servers take no list here.
        is_more = any(part.get("type") != "text" for part in content if isinstance(part, dict))
        return content if is_more and all(_is_part(part) for part in content) else text_of(content)
    return content if isinstance(content, str) else text_of(content) or as_text(content)


def _is_part(part: JSON) -> bool:
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    return kind in ANSWER_PARTS or (kind in ("text", "refusal") and isinstance(part.get(kind), str))


def _spoken(message: JSONObject) -> JSONObject:
    """The message, with an empty content if it would say nothing at all."""
    says = message.keys() & {"content", "tool_calls", "function_call", "refusal", "audio"}
    return message if says else {**message, "content": ""}


def begun(request: Mapping[str, JSON]) -> tuple[str, bool]:
    """The text that the answer is to continue (else ""): the last message's; and whether a flag asks for that.

    The flag is ``prefix`` at DeepSeek and Mistral, ``partial`` at Moonshot and DashScope, ``continue_final_message`` at
    vLLM.
    """
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant" or last.get("tool_calls"):
        return "", False
    flags = (request.get("continue_final_message"), *(last.get(name) for name in _FLAGS))
    return text_of(last.get("content")), any(flag is True for flag in flags)


def conversation(request: JSONObject, message: JSONObject, base_url: JSON = None) -> list[Any]:
    """The request's messages followed by the reply's: the start of the next request.

    A reply that continues the request's last message becomes one turn with it. Most servers refuse or misread two turns
    of the assistant in a row, and a flag on a message that is not the last.
    """
    turn, messages = conversation_message(message), [*request["messages"]]
    prefix, is_flagged = begun(request)
    # OpenAI takes the message for a turn of its own, and answers with another.
    if not prefix or (not is_flagged and isinstance(base_url, str) and server_at(base_url).openai):
        return [*messages, turn]
    first = {name: value for name, value in messages.pop().items() if name not in _FLAGS}
    return [*messages, {**first, **turn, "content": _joined(prefix, turn.get("content"))}]


def _joined(prefix: str, content: list[Any] | str | None) -> JSON:
    """The two texts as one. Mistral repeats the prefix in its answer; DeepSeek does not."""
    if text_of(content).startswith(prefix):
        return content
    return [{"type": "text", "text": prefix}, *content] if isinstance(content, list) else prefix + (content or "")


def asked_again(request: JSONObject, turns: list[JSONObject]) -> JSONObject:
    """The request with the turns of an answer that does not fit. It no longer asks to continue a text."""
    if not begun(request)[0] or not turns:
        return {**request, "messages": [*request["messages"], *turns]}
    plain = {name: value for name, value in request.items() if name != "continue_final_message"}
    if request.get("continue_final_message") and request.get("add_generation_prompt") is False:
        del plain["add_generation_prompt"]
    return {**plain, "messages": [*conversation(request, turns[0]), *turns[1:]]}


def fitted_to_server(request: JSON, base_url: str | None) -> tuple[Any, list[str]]:
    """The request without the fields of assistant messages that its server is known to refuse; a warning names them.

    Nearly always such a field comes from another server's reply: nobody writes reasoning by hand.
    """
    server = server_at(base_url)
    messages = request.get("messages") if isinstance(request, dict) else None
    if server.only_message_fields is None or not isinstance(request, dict) or not isinstance(messages, list):
        return request, []
    gone: dict[str, None] = {}
    fitting = [_fitted(message, server, gone) for message in messages]
    if not gone:
        return request, []
    names = ", ".join(gone)
    warning = f"$.messages: {names} of the assistant is not sent, because {server.name} refuses it"
    return {**request, "messages": fitting}, [warning]


def _fitted(message: JSON, server: Server, gone: dict[str, None]) -> JSON:
    """A message without what the server refuses. The names of what is left out are added to ``gone``."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    refused = [name for name in _REASONING if name in message and name not in (server.only_message_fields or ())]
    fitting = {name: value for name, value in message.items() if name not in refused}
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, list):
        kinds = [part["type"] for part in content if isinstance(part, dict) and part.get("type") in ANSWER_PARTS]
        if kinds := [kind for kind in kinds if kind not in server.message_parts]:
            refused += kinds
            text = text_of(content)
            fitting["content"] = text if text or not calls else None
    if isinstance(calls, list):
        objects = [call for call in calls if isinstance(call, dict)]
        if extras := [name for name in _KEPT if any(name in call for call in objects)]:
            refused += extras
            fitting["tool_calls"] = [_without(call, _KEPT) for call in calls]
    gone.update(dict.fromkeys(refused))
    return _spoken(fitting) if refused else message


def _without(call: JSON, names: tuple[str, ...]) -> JSON:
    return {name: value for name, value in call.items() if name not in names} if isinstance(call, dict) else call


def with_instruction(messages: list[JSONObject], text: str) -> list[JSONObject]:
    """The messages with ``text`` added to the leading system message, or before them as a system message of its own."""
    first = messages[0] if messages else {}
    if first.get("role") in ("system", "developer") and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
