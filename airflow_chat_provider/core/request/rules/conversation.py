"""Rules of the messages: what answers what, who speaks, how calls in the history are written, and what a message holds.

No text, image or file is ever quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_chat_provider.core.json_text.nesting import loads
from airflow_chat_provider.core.request.rules.report import Report, as_dict, as_list, quoted, unsure
from airflow_chat_provider.core.request.rules.tools import NAMES, deprecated, fits

_MISTRAL_ID = r"[A-Za-z0-9]{9}"
_ID_LIMIT = 40
# Beyond this only the braces are looked at: reading a megabyte of JSON for a warning is not worth its time.
_ARGUMENTS_READ = 100_000


def check(request: Mapping[str, Any], report: Report) -> None:
    messages = as_list(request.get("messages"))
    answers_end = 0
    for index in _unusual(messages):
        message, path = messages[index], f"$.messages[{index}]"
        if not isinstance(message, dict):
            continue
        role = message.get("role")
        if role == "assistant":
            _check_assistant(message, path, report)
            answers_end = _check_answers(messages, index, report)
        elif role == "tool" and index >= answers_end and not _may_follow_calls(messages, index):
            _orphan(path, report)
        elif role == "function":
            deprecated(f"{path}.role", report)
        _check_parts(as_list(message.get("content")), f"{path}.content", report)
        _check_name(message.get("name"), path, report)
    if messages:
        _check_roles(messages, report)
        _check_ends(request, messages, report)


def _unusual(messages: Sequence[Any]) -> list[int]:
    """The indices of messages that are more than a role and a text.

    The others, nearly all, break no rule on their own.
    """
    return [index for index, message in enumerate(messages) if not _is_plain(message)]


def _is_plain(message: object) -> bool:
    if not isinstance(message, dict) or len(message) != 2:
        return False
    return isinstance(message.get("content"), str) and message.get("role") in ("user", "assistant", "system")


def _check_assistant(message: dict[str, Any], path: str, report: Report) -> None:
    calls = message.get("tool_calls")
    if isinstance(calls, (list, tuple)) and not calls:
        problem, remedy = "is an empty array", "leave tool_calls out if nothing was called"
        report.refused_by_openai("empty_tool_calls", f"{path}.tool_calls", problem, remedy)
    said = (message.get(key) for key in ("content", "function_call", "refusal", "audio"))
    if not calls and all(value is None for value in said):
        problem = "is missing or null, and the message calls no tool"
        remedy = "give the assistant message its text, or drop the message"
        here = report.server.needs_content  # vLLM takes it
        report.refused_by_openai("assistant_content", f"{path}.content", problem, remedy, here=here)
    for number, call in enumerate(as_list(calls)):
        _check_call(as_dict(call), f"{path}.tool_calls[{number}]", report)
    if message.get("function_call") is not None:
        deprecated(f"{path}.function_call", report)
        _check_called(as_dict(message["function_call"]), f"{path}.function_call", report)


def _check_call(call: dict[str, Any], path: str, report: Report) -> None:
    _check_id(call.get("id"), f"{path}.id", report)
    _check_called(as_dict(call.get("function")), f"{path}.function", report)
    _check_called_name(as_dict(call.get("custom")).get("name"), f"{path}.custom.name", report)


def _check_called(function: dict[str, Any], path: str, report: Report) -> None:
    _check_called_name(function.get("name"), f"{path}.name", report)
    arguments = function.get("arguments")
    if isinstance(arguments, str) and not _is_json_object(arguments):
        remedy = "some servers refuse such a call in the history; write it as a JSON object"
        report.warn("tool_call_arguments", f"{path}.arguments", "is not the JSON text of an object", remedy)


def _check_called_name(name: object, path: str, report: Report) -> None:
    """Models make names up (``assistant<|channel|>analysis``).

    Where the server accepts them, the conversation goes on.
    """
    if isinstance(name, str) and not fits(name) and not (report.server.dollar_names and name.startswith("$")):
        remedy = "give the call another name, here and in each message that repeats it"
        report.refused_by_openai("called_name", path, f"is {quoted(name)}, and {NAMES}", remedy)


def _is_json_object(text: str) -> bool:
    if len(text) > _ARGUMENTS_READ:
        return text[:_ARGUMENTS_READ].lstrip()[:1] == "{" and text[-_ARGUMENTS_READ:].rstrip()[-1:] == "}"
    try:
        return isinstance(loads(text), dict)
    except ValueError:
        return False


def _check_id(call_id: object, path: str, report: Report) -> None:
    if not isinstance(call_id, str):
        return
    if len(call_id) > _ID_LIMIT:
        problem = f"has {len(call_id)} characters, and OpenAI has refused more than {_ID_LIMIT}"
        report.warn("tool_call_id", path, problem, "shorten the id, here and where it is answered")
    elif report.server.nine_letter_ids and not re.fullmatch(_MISTRAL_ID, call_id):
        problem = "is not nine letters and digits, and Mistral takes no other ids"
        report.warn("tool_call_id", path, problem, "rename the id, here and where it is answered")


def _check_answers(messages: Sequence[Any], index: int, report: Report) -> int:
    """Match an assistant message's calls with the tool messages after it. Returns the index after the last of those."""
    calls = as_list(messages[index].get("tool_calls"))
    end = index + 1
    if not calls:
        return end
    waiting = _call_ids(calls, f"$.messages[{index}].tool_calls", report)
    any_id = any(unsure(call, as_dict(call).get("id")) for call in calls)
    answered: set[Any] = set()
    while end < len(messages) and as_dict(messages[end]).get("role") == "tool":
        answer = messages[end].get("tool_call_id")
        if not unsure(answer) and not any_id and (not isinstance(answer, str) or answer not in waiting):
            _orphan(f"$.messages[{end}]", report)
        if isinstance(answer, str) and answer in answered:
            _twice(f"$.messages[{end}].tool_call_id", "answers a call that is answered already", report)
        if isinstance(answer, str) or unsure(answer):
            answered.add(answer)
        end += 1
    if not unsure(*answered) and not (end < len(messages) and _may_be_anything(messages[end])):
        for call_id, path in waiting.items():
            if call_id not in answered:
                _unanswered(path, call_id, report)
    return end


def _may_be_anything(message: object) -> bool:
    """Is the role of this message known only when the task runs?"""
    return unsure(message, as_dict(message).get("role"))


def _may_follow_calls(messages: Sequence[Any], index: int) -> bool:
    """May the tool message at ``index`` answer a message that is known only when the task runs?"""
    before = next((m for m in reversed(messages[:index]) if as_dict(m).get("role") != "tool"), None)
    return _may_be_anything(before) or unsure(as_dict(before).get("tool_calls"))


def _call_ids(calls: Sequence[Any], path: str, report: Report) -> dict[str, str]:
    """Each id with the path of its first call."""
    ids: dict[str, str] = {}
    for number, call in enumerate(calls):
        call_id, place = as_dict(call).get("id"), f"{path}[{number}].id"
        if isinstance(call_id, str):
            if call_id in ids:
                _twice(place, "repeats the id of a call before it", report)
            ids.setdefault(call_id, place)
    return ids


def _twice(path: str, problem: str, report: Report) -> None:
    report.warn("duplicate_tool_call_id", path, problem, "give each call an id of its own and one answer")


def _orphan(path: str, report: Report) -> None:
    problem = "answers no tool call of the assistant message before it"
    remedy = "put the tool message right after the assistant message whose tool_calls has its id"
    # A local server leaves it to the model's template.
    place, here = f"{path}.tool_call_id", report.server.pairs_calls
    report.refused_by_openai("tool_message_without_call", place, problem, remedy, here=here)


def _unanswered(path: str, call_id: str, report: Report) -> None:
    problem = f"is the call {quoted(call_id)}, and the conversation goes on before a tool message answers it"
    remedy = "add a tool message with this tool_call_id right after the assistant message"
    report.refused_by_openai("tool_call_without_answer", path, problem, remedy, here=report.server.pairs_calls)


def _check_name(name: object, path: str, report: Report) -> None:
    if isinstance(name, str) and not fits(name):
        problem = f"is {quoted(name)}, which is not 1 to 64 letters, digits, '_' or '-'"
        report.warn("message_name", f"{path}.name", problem, "rename the speaker, or leave name out")


def _check_roles(messages: Sequence[Any], report: Report) -> None:
    developer = _first_with(messages, "developer")
    if developer is None:
        return
    path = f"$.messages[{developer}].role"
    if _first_with(messages, "system") is not None:
        problem = "is developer in a conversation that has system messages too"
        report.warn("system_and_developer", path, problem, "use one of the two roles")
    if report.server.known and not report.server.openai:
        problem = "is developer, a role that servers other than OpenAI's may not know"
        report.warn("developer_role", path, problem, "use the role system")


def _first_with(messages: Sequence[Any], role: str) -> int | None:
    return next((i for i, message in enumerate(messages) if as_dict(message).get("role") == role), None)


def _check_ends(request: Mapping[str, Any], messages: Sequence[Any], report: Report) -> None:
    if not any(_prompts(message) for message in messages):
        problem = "holds no user, developer or system message with content"
        report.warn("no_prompt", "$.messages", problem, "add the message that the model should answer")
    last = as_dict(messages[-1])
    flags = (request.get("continue_final_message"), last.get("prefix"), last.get("partial"))
    calls = last.get("tool_calls") or last.get("function_call")
    if last.get("role") == "assistant" and not calls and True not in flags:  # a vendor's way to ask for a continuation
        problem = "is an assistant message at the end, which some servers continue and others refuse"
        remedy = "end the conversation with a user or tool message"
        report.warn("assistant_last", f"$.messages[{len(messages) - 1}]", problem, remedy)


def _prompts(message: object) -> bool:
    message = as_dict(message)
    return message.get("role") in ("user", "system", "developer") and bool(message.get("content"))


def _check_parts(parts: Sequence[Any], path: str, report: Report) -> None:
    for index, part in enumerate(parts):
        kind = as_dict(part).get("type")
        if kind == "image_url":
            _check_image(as_dict(part.get(kind)).get("url"), f"{path}[{index}].{kind}.url", report)
        elif kind == "file" and not unsure(part.get(kind)):
            _check_file(as_dict(part.get(kind)), f"{path}[{index}].{kind}", report)


def may_mention_json(messages: object) -> bool:
    """May any text hold "json"?"""
    texts = list(_texts(messages))
    return unsure(*texts) or any("json" in text.lower() for text in texts if isinstance(text, str))


def _texts(messages: object) -> Iterator[Any]:
    """Each text, and each UNKNOWN in the place of one."""
    if unsure(messages):
        yield messages
    for message in as_list(messages):
        content = as_dict(message).get("content")
        yield message if unsure(message) else content
        for part in as_list(content):
            yield part if unsure(part) else as_dict(part).get("text")


def _check_image(url: object, path: str, report: Report) -> None:
    if not isinstance(url, str):
        return
    start = url[:128].lower()
    if start.startswith(("http://", "https://")):
        if report.server.no_image_urls:
            problem = "is a web address, and Ollama reads images from data: URIs only"
            report.warn("image_by_url", path, problem, "send the image itself as a base64 data: URI")
    elif not (start.startswith("data:image/") and ";base64," in start):
        remedy = "give a URL that the server can fetch, or the image itself as a data URI"
        report.warn("image_url", path, "is neither an http(s) URL nor a data:image/...;base64 URI", remedy)


def _check_file(file: dict[str, Any], path: str, report: Report) -> None:
    data = file.get("file_data")
    if unsure(data, file.get("file_id"), file.get("filename")):
        return
    if file.get("file_id") is None and data is None:
        remedy = "give the file_id of an uploaded file, or filename and file_data"
        report.refused_by_openai("file_source", path, "has neither file_id nor file_data", remedy)
    elif data is not None and file.get("filename") is None:
        problem = "has file_data without filename"
        report.warn("file_name", path, problem, "give the filename, which tells the server the type")
