"""How an answer ended: whole, or cut off, filtered or failed, by whichever word its server has for that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer.finish_reasons import (
    FILTER,
    KINDS,
    LENGTH,
    LONGEST,
    REFUSAL,
    SAYS_NOTHING,
    WHOLE_WORDS,
    Kind,
    squeezed,
)
from airflow_chat_provider.core.messages.answer_text import text_of
from airflow_chat_provider.core.server.error_body import is_error

_SHOWN = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_PAYLOAD = ("tool_calls", "function_call", "refusal", "audio", "images")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class _Ending(NamedTuple):
    """How the choice at ``place`` ended; ``said`` are the server's own words for it."""

    place: int
    kind: Kind
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
    kind = ending.kind if ending is not None else (LENGTH if body.get("choices") else FILTER)
    *first, last = *kind.todo, *more
    todo = ", ".join(first) + (", or " if len(first) > 1 else " or ") + last if first else last
    return todo[0].upper() + todo[1:]


def unanswered(body: Any) -> str | None:
    """Why a body that has no message for its first choice, or no choice, is an incomplete answer; None if it is not.

    Azure and gateways send ``message: null`` for a filtered answer, and Gemini no choices for a blocked prompt.
    """
    if not isinstance(body, dict) or body.get("error"):
        return None
    choices = body.get("choices")
    if not choices:
        return _blocked(body)
    first = choices[0] if isinstance(choices, list) else None
    if not isinstance(first, dict) or isinstance(first.get("message"), dict) or ended_in_error(first):
        return None
    kind, said = _ended(first)
    return f"choices[0] has no message: it {kind.said}{said}" if kind is not None else None


def may_lack_message(choice: Mapping[str, Any]) -> bool:
    """Was the choice cut, filtered or failed before it had a message?"""
    return not ended_in_error(choice) and _ended(choice)[0] is not None


def doubts(body: Mapping[str, Any]) -> Iterator[str]:
    """What there is to warn of in a whole answer: a finish_reason that nobody here knows, and an answer of nothing."""
    whole = [(index, said, choice) for index, choice, kind, said in _each(body) if kind is None]
    for index, said, _ in [one for one in whole if one[1]][:1]:
        yield (f"Check that the answer is whole: choices[{index}] ended for a reason that is not known here{said}")
    empty = (_nothing(_message(choice), f"choices[{index}]") for index, _, choice in whole)
    for nothing in list(filter(None, empty))[:1]:
        yield f"Check the prompt and the model: {nothing}"


def stopped(body: Any) -> bool:
    """Does the first choice say that it ended by itself?"""
    first = next(_choices(body), {}) if isinstance(body, dict) else {}
    word = squeezed(_word(first) or "")
    return word in WHOLE_WORDS and word not in SAYS_NOTHING and _ended(first)[0] is None


def hidden_text(message: Mapping[str, Any]) -> str | None:
    """The field that has text, where the content has none: some servers take a whole answer for reasoning."""
    if _has_text(message.get("content")):
        return None
    return next((name for name in _THOUGHTS if isinstance(message.get(name), str) and message[name].strip()), None)


def _endings(body: Mapping[str, Any]) -> Iterator[_Ending]:
    for index, choice, kind, said in _each(body):
        if kind is not None:
            yield _Ending(index, kind, said)
        elif _refuses(_message(choice)):
            yield _Ending(index, REFUSAL, "")


def _each(body: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any], Kind | None, str]]:
    for index, choice in enumerate(_choices(body)):
        yield index, choice, *_ended(choice)


def _choices(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    choices = body.get("choices")
    return (one if isinstance(one, dict) else {} for one in choices) if isinstance(choices, list) else iter(())


def _message(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    message = choice.get("message")
    return message if isinstance(message, dict) else {}


def _ended(choice: Mapping[str, Any]) -> tuple[Kind | None, str]:
    """What happened to a choice, and by which word; (None, "") where it is whole, a word alone where it is unknown."""
    word = _word(choice)
    said = _shown("finish_reason", word) if word else ""
    if word is not None and (kind := KINDS.get(squeezed(word))):
        return kind, said
    # OpenRouter has the upstream's own word beside its translation, which has been "stop" for a failed call.
    native = choice.get("native_finish_reason")
    if isinstance(native, str) and (kind := KINDS.get(squeezed(native))):
        return kind, _shown("native_finish_reason", native)
    if _is_filtered(choice.get("content_filter_results")):
        return FILTER, " (content_filter_results)"
    known = word is None or (len(word) <= 2 * LONGEST and squeezed(word) in WHOLE_WORDS)
    return None, "" if known else said


def _shown(name: str, word: str) -> str:
    """A reason as it is told: a word, and not what somebody might have written in its place."""
    return f" ({name} {word})" if _SHOWN.fullmatch(word) else f" (a {name} that is not a word)"


def _word(choice: Mapping[str, Any]) -> str | None:
    """The reason that a choice names, by whichever key: Gemini has sent finishReason, OpenAI once finish_details."""
    for key in ("finish_reason", "finishReason", "finish_details"):
        reason = choice.get(key)
        reason = reason.get("type") if isinstance(reason, dict) else reason  # SGLang's own is an object
        if isinstance(reason, str) and reason:
            return reason
        if reason:
            return f"of-type-{type(reason).__name__}"
    return None


def ended_in_error(choice: Mapping[str, Any]) -> bool:
    """Does a choice hold an error, or nothing but the word that there was one?"""
    return is_error(choice.get("error")) or squeezed(_word(choice) or "") == "error"


def _is_filtered(results: Any) -> bool:
    """Azure's verdict on an answer: an object for each kind of content that it looks for."""
    found = results.values() if isinstance(results, dict) else ()
    return any(isinstance(one, dict) and one.get("filtered") is True for one in found)


def _refuses(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return bool(message.get("refusal")) or any(
        isinstance(part, dict) and part.get("type") == "refusal" and part.get("refusal") for part in parts
    )


def _blocked(body: Mapping[str, Any]) -> str | None:
    for key in ("prompt_feedback", "promptFeedback"):
        feedback = body.get(key)
        reason = feedback.get("block_reason", feedback.get("blockReason")) if isinstance(feedback, dict) else None
        if reason:
            shown = _shown("block_reason", reason) if isinstance(reason, str) else ""
            return f"there is no answer: the prompt was blocked by a content filter{shown}"
    return None


def _nothing(message: Mapping[str, Any], where: str) -> str | None:
    """Words on a message that says nothing; None for one that says something."""
    content = message.get("content")
    if any(message.get(name) for name in _PAYLOAD) or _has_text(content):
        return None
    if isinstance(content, list) and any(_is_shown(part) for part in content):
        return None
    if content is not None and not isinstance(content, str | list):
        return f"the content of {where} is not text"
    thoughts = hidden_text(message)
    has = f"has text in its {thoughts} alone" if thoughts else "has no text and calls no tool"
    return f"the answer is empty, {where} {has}"


def _has_text(content: Any) -> bool:
    text = text_of(content)
    return bool(text) and not text.isspace()


def _is_shown(part: Any) -> bool:
    """Is it part of an answer that is no text, an image for one?"""
    return isinstance(part, dict) and part.get("type") not in ("text", "thinking", "redacted_thinking", "reference")
