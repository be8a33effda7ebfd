"""How an answer ended: whole, or cut off, filtered or failed, by whichever word its server has for that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer_text import text_of

_LONGEST = 64  # characters of a reason that are looked at and shown; the longest known one has 29
_SHOWN = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_HALF = "was cut off by "


class _Kind(NamedTuple):
    """What happened to an answer, and what its reader can do."""

    said: str
    todo: tuple[str, ...]


_LENGTH = _Kind(_HALF + "its length limit", ("raise the token limit", "change the prompt"))
_CONTEXT = _Kind(_HALF + "the model's context limit", ("shorten the prompt", "choose a model with a larger context"))
_TIME = _Kind(_HALF + "a time limit", ("ask again", "lower what is asked for"))
_FILTER = _Kind(_HALF + "a content filter", ("change the prompt",))
_REFUSAL = _Kind("is a refusal", ("change the prompt",))
_FAILED = _Kind("was broken off by the server", ("ask again",))
_CALL = _Kind("ended in a tool call that the model did not write correctly", ("ask again", "simplify the tools"))
_PAUSED = _Kind("is not finished: its server has paused it", ("ask again with the messages that came",))
_LOOP = _Kind("was broken off because the model repeats itself", ("change the prompt", "raise a penalty"))

# Where each word was seen. Words are compared as letters and digits alone, in lower case, without the prefixes
# FINISH_REASON_ and REASON_: MAX_TOKENS, max-tokens and maxTokens are one word.
_INCOMPLETE: Mapping[_Kind, Mapping[str, tuple[str, ...]]] = {
    _LENGTH: {
        "OpenAI": ("length",),
        "Gemini, Anthropic, Bedrock, Cohere, watsonx": ("max_tokens",),
        "gateways to OpenAI's Responses API": ("max_output_tokens", "incomplete"),
        "OpenAI's parameter as a reason": ("max_completion_tokens",),
        "watsonx": ("token_limit", "not_finished"),
        "Cohere v1": ("error_limit",),
        "xAI": ("max_len",),
        "llama.cpp": ("limit",),
        "LM Studio": ("max_predicted_tokens_reached",),
        "MiniMax": ("max_output",),
    },
    _CONTEXT: {
        "Mistral": ("model_length",),
        "Anthropic, Bedrock, Zhipu": ("model_context_window_exceeded",),
        "xAI": ("max_context",),
        "LM Studio": ("context_length_reached",),
        "OpenAI's error code as a reason": ("context_length_exceeded",),
    },
    _TIME: {"Cohere v2, TensorRT-LLM": ("timeout",), "watsonx, xAI": ("time_limit",)},
    _FILTER: {
        "OpenAI, Azure": ("content_filter",),
        "Gemini": (
            *("safety", "recitation", "prohibited_content", "blocklist", "spii", "language", "model_armor"),
            *("image_safety", "image_prohibited_content", "image_recitation"),
        ),
        "Bedrock": ("content_filtered", "guardrail_intervened"),
        "Zhipu": ("sensitive",),
        "Cohere v1": ("error_toxic",),
        "gateways": ("content_blocked", "moderation", "blocked", "filtered"),
    },
    _REFUSAL: {"Anthropic": ("refusal",), "gateways": ("refused",)},
    _FAILED: {
        "vLLM, SGLang": ("abort",),
        "clients of theirs": ("aborted",),
        "watsonx, TensorRT-LLM": ("cancelled",),
        "gateways": ("canceled", "cancel", "failed", "failure", "exception", "interrupted", "disconnect"),
        "Cohere v1": ("user_cancel",),
        "DeepSeek": ("insufficient_system_resource",),
        "Zhipu": ("network_error",),
        "Gemini": ("other", "image_other", "no_image", "malformed_response"),
        "Bedrock": ("malformed_model_output",),
        "LM Studio": ("user_stopped", "model_unloaded"),
        "OpenRouter, Mistral, LMDeploy": ("error",),
        "gateways' errors": (
            "error_finish",
            "engine_error",
            "internal_error",
            "server_error",
            "upstream_error",
        ),
        "gateways that hand on an overload": ("overloaded", "rate_limit", "unavailable"),
    },
    _CALL: {
        "Gemini": (
            *("malformed_function_call", "malformed_tool_call", "unexpected_tool_call"),
            *("too_many_tool_calls", "missing_thought_signature"),
        ),
        "Bedrock": ("malformed_tool_use",),
    },
    _PAUSED: {"Anthropic": ("pause_turn",)},
    _LOOP: {"vLLM": ("repetition",), "gateways": ("repetition_detected",)},
}
_WHOLE: Mapping[str, tuple[str, ...]] = {
    "OpenAI": ("stop", "tool_calls", "function_call"),
    "Anthropic, Bedrock": ("end_turn", "stop_sequence", "tool_use"),
    "Cohere": ("complete", "tool_call"),
    "Hugging Face, watsonx": ("eos", "eos_token"),
    "xAI": ("eot", "stop_token"),
    "LM Studio": ("eos_found", "stop_string_found"),
    "llama.cpp": ("word", "eog_token", "stop_trigger"),
    "TensorRT-LLM": ("end_id", "stop_words"),
    "AI21": ("endoftext",),
    "Baidu": ("normal",),
    "gateways": ("completed", "finished", "finish", "done", "end", "success", "function_calls", "stop_string"),
    "nothing is said: Gemini's enum, DashScope, one-api": ("unspecified", "null", "none", ""),
}


def _squeezed(word: str) -> str:
    letters = "".join(filter(str.isalnum, word[: 2 * _LONGEST])).lower()
    return letters.removeprefix("finishreason").removeprefix("reason")


_KINDS = {_squeezed(word): kind for kind, seen in _INCOMPLETE.items() for words in seen.values() for word in words}
_KNOWN_WHOLE = {_squeezed(word) for words in _WHOLE.values() for word in words}
_SAYS_NOTHING = {"unspecified", "null", "none", ""}
_PAYLOAD = ("tool_calls", "function_call", "refusal", "audio", "images")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class _Ending(NamedTuple):
    """How the choice at ``place`` ended; ``said`` are the server's own words for it."""

    place: int
    kind: _Kind
    said: str

    def __str__(self) -> str:
        return f"choices[{self.place}] {self.kind.said}{self.said}"


def incomplete(body: Mapping[str, Any]) -> str | None:
    """Why an answer is not all that was asked for: cut off, filtered, failed or refused; None if it is whole."""
    ending = next(_endings(body), None)
    return str(ending) if ending is not None else None


def remedy(body: Mapping[str, Any], *more: str) -> str:
    """What the reader of an answer that is not whole can do, in the imperative; ``more``: what else there is to do."""
    ending = next(_endings(body), None)
    kind = ending.kind if ending is not None else (_LENGTH if body.get("choices") else _FILTER)
    *first, last = *kind.todo, *more
    todo = ", ".join(first) + (", or " if len(first) > 1 else " or ") + last if first else last
    return todo[0].upper() + todo[1:]


def unanswered(body: Any) -> str | None:
    """Why a body that has no message for its first choice, or no choice, is an incomplete answer; None if it is not.

    Azure and gateways send ``message: null`` for a filtered answer, and Gemini no choices for a blocked prompt.
    """
    if not isinstance(body, Mapping) or body.get("error"):
        return None
    choices = body.get("choices")
    if not choices:
        return _blocked(body)
    first = choices[0] if isinstance(choices, list) else None
    if not isinstance(first, Mapping) or isinstance(first.get("message"), Mapping) or is_error(first):
        return None
    kind, said = _ended(first)
    return f"choices[0] has no message: it {kind.said}{said}" if kind is not None else None


def may_lack_message(choice: Mapping[str, Any]) -> bool:
    """Was the choice cut, filtered or failed before it had a message?"""
    return not is_error(choice) and _ended(choice)[0] is not None


def doubts(body: Mapping[str, Any]) -> Iterator[str]:
    """What there is to warn of in a whole answer: a finish_reason that nobody here knows, and an answer of nothing."""
    whole = [(index, said, choice) for index, choice, kind, said in _each(body) if kind is None]
    for index, said, _ in [one for one in whole if one[1]][:1]:
        yield (f"Check that the answer is whole: choices[{index}] ended for a reason that is not known here{said}")
    empty = ((index, _nothing(_message(choice))) for index, _, choice in whole)
    for index, nothing in [one for one in empty if one[1]][:1]:
        yield f"Check the prompt and the model: the answer is empty, choices[{index}] {nothing}"


def stopped(body: Any) -> bool:
    """Does the first choice say that it ended by itself?"""
    first = next(_choices(body), {}) if isinstance(body, Mapping) else {}
    word = _squeezed(_word(first) or "")
    return word in _KNOWN_WHOLE and word not in _SAYS_NOTHING and _ended(first)[0] is None


def hidden_text(message: Mapping[str, Any]) -> str | None:
    """The field that has text, where the content has none: some servers take a whole answer for reasoning."""
    if text_of(message.get("content")).strip():
        return None
    return next((name for name in _THOUGHTS if isinstance(message.get(name), str) and message[name].strip()), None)


def _endings(body: Mapping[str, Any]) -> Iterator[_Ending]:
    for index, choice, kind, said in _each(body):
        if kind is not None:
            yield _Ending(index, kind, said)
        elif _refuses(_message(choice)):
            yield _Ending(index, _REFUSAL, "")


def _each(body: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any], _Kind | None, str]]:
    for index, choice in enumerate(_choices(body)):
        yield index, choice, *_ended(choice)


def _choices(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    choices = body.get("choices")
    return (one if isinstance(one, Mapping) else {} for one in choices) if isinstance(choices, list) else iter(())


def _message(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    message = choice.get("message")
    return message if isinstance(message, Mapping) else {}


def _ended(choice: Mapping[str, Any]) -> tuple[_Kind | None, str]:
    """What happened to a choice, and by which word; (None, "") where it is whole, a word alone where it is unknown."""
    word = _word(choice)
    said = _shown("finish_reason", word) if word else ""
    if word is not None and (kind := _KINDS.get(_squeezed(word))):
        return kind, said
    # OpenRouter has the upstream's own word beside its translation, which has been "stop" for a failed call.
    native = choice.get("native_finish_reason")
    if isinstance(native, str) and (kind := _KINDS.get(_squeezed(native))):
        return kind, _shown("native_finish_reason", native)
    if _is_filtered(choice.get("content_filter_results")):
        return _FILTER, " (content_filter_results)"
    known = word is None or (len(word) <= 2 * _LONGEST and _squeezed(word) in _KNOWN_WHOLE)
    return None, "" if known else said


def _shown(name: str, word: str) -> str:
    """A reason as it is told: a word, and not what somebody might have written in its place."""
    return f" ({name} {word})" if _SHOWN.fullmatch(word) else f" (a {name} that is not a word)"


def _word(choice: Mapping[str, Any]) -> str | None:
    """The reason that a choice names, by whichever key: Gemini has sent finishReason, OpenAI once finish_details."""
    for key in ("finish_reason", "finishReason", "finish_details"):
        reason = choice.get(key)
        reason = reason.get("type") if isinstance(reason, Mapping) else reason  # SGLang's own is an object
        if isinstance(reason, str) and reason:
            return reason
        if reason:
            return f"of-type-{type(reason).__name__}"
    return None


def is_error(choice: Mapping[str, Any]) -> bool:
    """Does a choice hold an error, or nothing but the word that there was one?"""
    return bool(choice.get("error")) or _squeezed(_word(choice) or "") == "error"


def _is_filtered(results: Any) -> bool:
    """Azure's verdict on an answer: an object for each kind of content that it looks for."""
    found = results.values() if isinstance(results, Mapping) else ()
    return any(isinstance(one, Mapping) and one.get("filtered") is True for one in found)


def _refuses(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return bool(message.get("refusal")) or any(
        isinstance(part, Mapping) and part.get("type") == "refusal" and part.get("refusal") for part in parts
    )


def _blocked(body: Mapping[str, Any]) -> str | None:
    for key in ("prompt_feedback", "promptFeedback"):
        feedback = body.get(key)
        reason = feedback.get("block_reason", feedback.get("blockReason")) if isinstance(feedback, Mapping) else None
        if reason:
            shown = _shown("block_reason", reason) if isinstance(reason, str) else ""
            return f"there is no answer: the prompt was blocked by a content filter{shown}"
    return None


def _nothing(message: Mapping[str, Any]) -> str | None:
    """Words on a message that says nothing; None for one that says something."""
    content = message.get("content")
    if any(message.get(name) for name in _PAYLOAD) or text_of(content).strip():
        return None
    if isinstance(content, list) and any(_is_shown(part) for part in content):
        return None
    thoughts = hidden_text(message)
    return f"has text in its {thoughts} alone" if thoughts else "has no text and calls no tool"


def _is_shown(part: Any) -> bool:
    """Is it part of an answer that is no text, an image for one?"""
    return isinstance(part, Mapping) and part.get("type") not in ("text", "thinking", "redacted_thinking", "reference")
