"""A reply: the end of one call, whether its body is a chat completion at all, and how the answer in it ended.

An answer is complete, or cut off, filtered or failed, by whichever word its server has for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from airflow_chat_provider.core.errors import ChatCompletionError, IncompleteReply
from airflow_chat_provider.core.messages import text_of
from airflow_chat_provider.core.server.error_body import is_error
from airflow_chat_provider.core.types import JSON, JSONObject

_LONGEST_WORD = 64  # characters of a reason that are compared and shown; the longest known one has 29
_SHOWN = r"[A-Za-z0-9_.:/-]{1,64}"
_PAYLOAD = ("tool_calls", "function_call", "refusal", "audio", "images")
"""What a message may hold instead of text."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Where servers put a model's reasoning."""


class Ended(Enum):
    """Why an answer is not complete: the end of a sentence about a choice, and what its reader can do."""

    LENGTH = "was cut off by its length limit", ("raise the token limit", "change the prompt")
    CONTEXT = "was cut off by the model's context limit", ("shorten the prompt", "choose a model with a larger context")
    TIME = "was cut off by a time limit", ("ask again", "ask for less")
    FILTER = "was cut off by a content filter", ("change the prompt",)
    REFUSAL = "is a refusal", ("change the prompt",)
    FAILED = "was aborted by the server", ("ask again",)
    CALL = "ended in a malformed tool call", ("ask again", "simplify the tools")
    PAUSED = "is not finished, because the server paused it", ("ask again with the messages that came",)
    LOOP = "was aborted because the model repeats itself", ("change the prompt", "raise a penalty")

    def __init__(self, said: str, todo: tuple[str, ...]) -> None:
        self.said = said
        self.todo = todo


# The words that servers have for an end, each with who was seen to use it. Words are compared in lower case by their
# letters and digits alone, without the prefixes FINISH_REASON_ and REASON_: MAX_TOKENS, max-tokens, maxTokens are one.
_INCOMPLETE = {
    Ended.LENGTH: """
        length max_completion_tokens (OpenAI) max_tokens (Gemini: HKUDS/Vibe-Trading#308; Anthropic, Bedrock, Cohere,
        watsonx) max_output_tokens incomplete (gateways to OpenAI's Responses API) token_limit not_finished (watsonx)
        error_limit (Cohere v1) max_len (xAI) limit (llama.cpp) max_predicted_tokens_reached (LM Studio)
        max_output (MiniMax)
    """,
    Ended.CONTEXT: """
        model_length (Mistral) model_context_window_exceeded (Anthropic, Bedrock, Zhipu) max_context (xAI)
        context_length_reached (LM Studio) context_length_exceeded (OpenAI's error code, by gateways)
    """,
    Ended.TIME: "timeout (Cohere v2, TensorRT-LLM) time_limit (watsonx, xAI)",
    Ended.FILTER: """
        content_filter (OpenAI, Azure) safety recitation prohibited_content blocklist spii language model_armor
        image_safety image_prohibited_content image_recitation (Gemini: HKUDS/Vibe-Trading#308,
        bespokelabsai/curator#261) content_filtered guardrail_intervened (Bedrock: can1357/oh-my-pi#10503)
        sensitive (Zhipu: langgenius/dify#7559) error_toxic (Cohere v1)
        content_blocked moderation blocked filtered (gateways)
    """,
    Ended.REFUSAL: "refusal (Anthropic) refused (gateways)",
    Ended.FAILED: """
        abort (vLLM: vllm-project/vllm#57082; SGLang) aborted (clients of these) cancelled (watsonx, TensorRT-LLM)
        user_cancel (Cohere v1) insufficient_system_resource (DeepSeek: can1357/oh-my-pi#8563)
        network_error (Zhipu: promptfoo/promptfoo#9905) other image_other no_image malformed_response (Gemini)
        malformed_model_output (Bedrock) user_stopped model_unloaded (LM Studio) error (OpenRouter, Mistral, LMDeploy)
        canceled cancel failed failure exception interrupted disconnect error_finish engine_error internal_error
        server_error upstream_error (gateways) overloaded rate_limit unavailable (gateways that hand on an overload)
    """,
    Ended.CALL: """
        malformed_function_call malformed_tool_call unexpected_tool_call too_many_tool_calls missing_thought_signature
        (Gemini: NousResearch/hermes-agent#83886) malformed_tool_use (Bedrock)
    """,
    Ended.PAUSED: "pause_turn (Anthropic)",
    Ended.LOOP: "repetition (vLLM) repetition_detected (gateways)",
}
_WHOLE = """
    stop tool_calls function_call (OpenAI) end_turn stop_sequence tool_use (Anthropic, Bedrock)
    complete tool_call (Cohere) eos eos_token (Hugging Face, watsonx) eot stop_token (xAI)
    eos_found stop_string_found (LM Studio) word eog_token stop_trigger (llama.cpp) end_id stop_words (TensorRT-LLM)
    endoftext (AI21) normal (Baidu) completed finished finish done end success function_calls stop_string (gateways)
"""
_SAYS_NOTHING = {"unspecified", "null", "none", ""}  # Gemini's enum, DashScope, one-api


def _squeezed(word: str) -> str:
    """A word as it is compared."""
    return _squeezed_short(word[: 2 * _LONGEST_WORD])


@lru_cache(64)
def _squeezed_short(word: str) -> str:
    letters = "".join(filter(str.isalnum, word)).lower()
    return letters.removeprefix("finishreason").removeprefix("reason")


def _words(text: str) -> list[str]:
    return [_squeezed(word) for word in re.sub(r"\([^)]*\)", "", text).split()]


_ENDED = {word: ended for ended, text in _INCOMPLETE.items() for word in _words(text)}
_COMPLETE = {*_words(_WHOLE), *_SAYS_NOTHING}


class _Ending(NamedTuple):
    """How the choice at ``place`` ended. ``said``: the server's word for it, if it is not one for a complete answer."""

    place: int
    ended: Ended | None
    said: str
    message: JSONObject


def incomplete(body: JSONObject) -> str | None:
    """Which choice of an answer was cut off, filtered or aborted, or is a refusal; None if all are complete."""
    for ending in _endings(body):
        if ending.ended is not None:
            return f"choices[{ending.place}] {ending.ended.said}{ending.said}"
        if _refuses(ending.message):
            return f"choices[{ending.place}] {Ended.REFUSAL.said}"
    return None


def remedy(body: JSONObject) -> str:
    """What the reader of an incomplete answer can do, in the imperative."""
    each = (one.ended or (Ended.REFUSAL if _refuses(one.message) else None) for one in _endings(body))
    ended = next(filter(None, each), None) or (Ended.LENGTH if body.get("choices") else Ended.FILTER)
    todo = " or ".join(ended.todo)
    return todo[0].upper() + todo[1:]


def doubts(body: JSONObject) -> list[str]:
    """Warnings of a complete answer: its finish_reason is unknown, or it is empty. At most one of each."""
    found: dict[str, str] = {}
    for place, ended, said, message in _endings(body):
        if ended is not None:
            continue
        if said:
            why = f"choices[{place}] ended for a reason that this provider does not know{said}"
            found.setdefault("unknown", f"Check that the answer is complete: {why}")
        if nothing := _nothing(message, f"choices[{place}]"):
            found.setdefault("empty", f"Check the prompt and the model: {nothing}")
    return [found[kind] for kind in ("unknown", "empty") if kind in found]


def unanswered(body: JSON) -> str | None:
    """Why a body without a message in its first choice, or without choices, is an incomplete answer; None if it is not.

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
    ended, said = _how_ended(first)
    return f"choices[0] has no message: it {ended.said}{said}" if ended is not None else None


def may_lack_message(choice: JSONObject) -> bool:
    """Was the choice cut off, filtered or aborted, which may have happened before it had a message?"""
    return not ended_in_error(choice) and _how_ended(choice)[0] is not None


def ended_in_error(choice: JSONObject) -> bool:
    """Does a choice hold an error, or nothing but the word that there was one?"""
    word = _word(choice)
    if choice.get("error") and is_error(choice["error"]):
        return True
    return word is not None and word not in _COMPLETE and _squeezed(word) == "error"


def stopped(body: JSON) -> bool:
    """Does the first choice say that the model ended it by itself?"""
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        return False
    word = _squeezed(_word(first) or "")
    return word in _COMPLETE and word not in _SAYS_NOTHING and _how_ended(first)[0] is None


def hidden_text(message: JSONObject) -> str | None:
    """The field that has text although the content has none: some servers take a whole answer for reasoning."""
    if _has_text(message.get("content")):
        return None
    return next((name for name in _THOUGHTS if isinstance(message.get(name), str) and message[name].strip()), None)


def _endings(body: JSONObject) -> Iterator[_Ending]:
    choices = body.get("choices")
    for place, found in enumerate(choices if isinstance(choices, list) else ()):
        choice = found if isinstance(found, dict) else {}
        message = choice.get("message")
        if not isinstance(message, dict):
            message = {}
        yield _Ending(place, *_how_ended(choice), message)


def _how_ended(choice: JSONObject) -> tuple[Ended | None, str]:
    """What happened to a choice, and by which word; None and no word if it is complete, None and a word if unknown."""
    word = _word(choice)
    said = ""
    if word is not None and word not in _COMPLETE:  # as "stop" is
        squeezed = _squeezed(word)
        if squeezed not in _COMPLETE or len(word) > 2 * _LONGEST_WORD:
            said = _shown("finish_reason", word)
        if ended := _ENDED.get(squeezed):
            return ended, said
    # OpenRouter has the upstream's own word beside its translation, which has been "stop" for a failed call.
    native = choice.get("native_finish_reason")
    if isinstance(native, str) and (ended := _ENDED.get(_squeezed(native))):
        return ended, _shown("native_finish_reason", native)
    # Azure's verdict on an answer: an object for each kind of content that its filter looks for.
    results = choice.get("content_filter_results")
    for verdict in results.values() if isinstance(results, dict) else ():
        if isinstance(verdict, dict) and verdict.get("filtered") is True:
            return Ended.FILTER, " (content_filter_results)"
    return None, said


def _word(choice: JSONObject) -> str | None:
    """The reason that a choice names, by whichever key: Gemini has sent finishReason, OpenAI once finish_details."""
    for key in ("finish_reason", "finishReason", "finish_details"):
        reason = choice.get(key)
        reason = reason.get("type") if isinstance(reason, dict) else reason  # SGLang's own is an object
        if isinstance(reason, str) and reason:
            return reason
        if reason:
            return f"of-type-{type(reason).__name__}"
    return None


def _shown(name: str, word: str) -> str:
    """A reason as it is told: a word, and not a text that somebody has written in its place."""
    return f" ({name} {word})" if re.fullmatch(_SHOWN, word) else f" (a {name} that is not a word)"


def _refuses(message: JSONObject) -> bool:
    if message.get("refusal"):
        return True
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") == "refusal" and part.get("refusal"):
            return True
    return False


def _blocked(body: JSONObject) -> str | None:
    for key in ("prompt_feedback", "promptFeedback"):
        feedback = body.get(key)
        reason = feedback.get("block_reason", feedback.get("blockReason")) if isinstance(feedback, dict) else None
        if reason:
            shown = _shown("block_reason", reason) if isinstance(reason, str) else ""
            return f"there is no answer, because a content filter blocked the prompt{shown}"
    return None


def _nothing(message: JSONObject, where: str) -> str | None:
    """Words about a message that says nothing; None for one that says something."""
    content = message.get("content")
    if any(map(message.get, _PAYLOAD)) or _has_text(content):
        return None
    if isinstance(content, list) and any(_is_shown(part) for part in content):
        return None
    if content is not None and not isinstance(content, str | list):
        return f"the content of {where} is not text"
    thoughts = hidden_text(message)
    has = f"has text only in its {thoughts}" if thoughts else "has no text and calls no tool"
    return f"the answer is empty ({where} {has})"


def _has_text(content: JSON) -> bool:
    text = text_of(content)
    return bool(text) and not text.isspace()


def _is_shown(part: JSON) -> bool:
    """Is it a part of an answer beside text, for example an image?"""
    return isinstance(part, dict) and part.get("type") not in ("text", "thinking", "redacted_thinking", "reference")


_Error = TypeVar("_Error", bound=ChatCompletionError)


class Reply(NamedTuple):
    """What one call ended with, however many attempts it took.

    ``body`` is parsed JSON, or text if the server sent none; ``status`` is None if no response began. ``attempts`` is 0
    if nothing was sent. ``error`` is what is wrong with the reply, if anything. ``seconds`` is the time from the first
    attempt to the last byte. ``notes`` has a line for each attempt that was made again. ``changes`` says what was
    changed in ``body`` so that XCom can keep it, and ``doubts`` what was read otherwise than the server wrote it:
    sentences for a log, which quote nothing of the answer.

    A dialogue finds out the last two. ``key``: the answer is an object around the value that was wanted, which stands
    under this key. ``rejected``: what was wrong with each of the answers before, which were asked for again; for a log.

    ``cost``, in ``currency``, is what the last attempt's answer cost; None if that is not known. ``earlier``: of the
    attempts before, those that took tokens, each with nothing but its status and its usage.
    """

    status: int | None
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})
    request_id: str | None = None
    attempts: int = 1
    seconds: float = 0.0
    error: ChatCompletionError | None = None
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    key: str | None = None
    rejected: tuple[str, ...] = ()
    cost: Decimal | None = None
    currency: str | None = None
    earlier: tuple[Reply, ...] = ()

    def __repr__(self) -> str:
        """Nothing of what was said: a reply may stand in a traceback or a log."""
        error = type(self.error).__name__ if self.error is not None else None
        return f"Reply(status={self.status}, attempts={self.attempts}, error={error})"

    def raise_for_error(self) -> Reply:
        """The reply itself; raises its error if it has one."""
        if self.error is not None:
            raise self.error
        return self

    def as_error(self, kind: type[_Error], message: str) -> _Error:
        """An error of this class about this reply, with its status, request id and body."""
        return kind(message, status=self.status, request_id=self.request_id, body=self.body)

    @property
    def message(self) -> JSONObject:
        """The first choice's message; empty if it has none."""
        return dict(self.body["choices"][0].get("message") or {})

    @property
    def text(self) -> str:
        """The first choice's text; empty if it has none."""
        return text_of(self.message.get("content"))

    @property
    def tokens(self) -> int | None:
        """All tokens of the call's last attempt; None if the server does not count them."""
        return tokens_of(self.body.get("usage") if isinstance(self.body, dict) else None)


def tokens_of(usage: JSON) -> int | None:
    """``total_tokens`` of a ``usage``, or the sum of its parts; None if it has no counts."""
    if not isinstance(usage, dict):
        return None
    if type(total := usage.get("total_tokens")) is int:
        return total
    for names in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        counts = [count for name in names if type(count := usage.get(name)) is int]
        if counts:
            return sum(counts)
    return None


def flaw(body: JSON, *, is_json: bool) -> str | None:
    """Why the body of a 2xx is not a chat completion; None if it is one."""
    if not is_json:
        return "an empty body" if not body else "text that is not JSON"
    if not isinstance(body, dict):
        return f"JSON that is not an object (a {type(body).__name__})" if body is not None else "the JSON null"
    if body.get("error") and is_error(body["error"]):
        return "an error in place of a completion"
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        return "a body without choices"
    for index, choice in enumerate(choices):
        if not isinstance(choice, dict):
            return f"choices[{index}] without a message"
        if ended_in_error(choice):
            return f"choices[{index}] that ended in an error"
        if not isinstance(choice.get("message"), dict) and not (index and may_lack_message(choice)):
            return f"choices[{index}] without a message"
    return None


def unanswered_error(reply: Reply) -> IncompleteReply | None:
    """The error of an answer that was cut off, filtered or aborted before there was a message; None for any other."""
    reason = unanswered(reply.body)
    return reply.as_error(IncompleteReply, f"{remedy(reply.body)}: {reason}") if reason is not None else None
