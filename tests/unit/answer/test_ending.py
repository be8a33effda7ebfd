"""How an answer ended, by whichever word its server has for that."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.answer.reply import Reply, doubts, flaw, incomplete, remedy, stopped, unanswered
from airflow_chat_provider.core.answer.result import Delivery, outcome
from airflow_chat_provider.core.errors import IncompleteReply
from airflow_chat_provider.core.types import OnIncomplete, ResultFormat

REQUEST: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
HALF = {"role": "assistant", "content": "The answer is"}
CUT = [
    *("length", "MAX_TOKENS", "max_tokens", "max-tokens", "maxTokens", "max_output_tokens", "FINISH_REASON_MAX_TOKENS"),
    *("REASON_MAX_LEN", "token_limit", "ERROR_LIMIT", "model_length", "model_context_window_exceeded"),
]
FILTERED = [
    *("content_filter", "content-filter", "contentFilter", "SAFETY", "safety", "RECITATION", "PROHIBITED_CONTENT"),
    *("BLOCKLIST", "SPII", "LANGUAGE", "IMAGE_SAFETY", "content_filtered", "sensitive", "guardrail_intervened"),
]
FAILED = [
    *("OTHER", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource", "server_error"),
    *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "malformed_tool_use", "TIMEOUT", "pause_turn", "repetition"),
]
WHOLE = [
    *("stop", "STOP", "Stop", "tool_calls", "tool-calls", "function_call", "tool_use", "TOOL_CALL", "end_turn"),
    *("stop_sequence", "eos", "eos_token", "COMPLETE", "FINISH_REASON_STOP", "REASON_STOP", "eosFound"),
    *(None, "", "null", "FINISH_REASON_UNSPECIFIED"),
]


def body(finish_reason: Any = "stop", message: Any = HALF, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **choice}]}


def left(answer: Any, on_incomplete: OnIncomplete = "warn", result_format: ResultFormat = "text") -> Any:
    return outcome(Delivery(result_format, on_incomplete=on_incomplete), REQUEST, Reply(200, answer), {})


@pytest.mark.parametrize("reason", [*CUT, *FILTERED, *FAILED, "refusal"])
def test_every_known_word_for_an_incomplete_answer_makes_it_incomplete(reason: str) -> None:
    assert f"(finish_reason {reason})" in str(incomplete(body(reason)))
    failed = left(body(reason), "fail")
    assert isinstance(failed.error, IncompleteReply)
    assert failed.xcoms["body"] == body(reason)
    warned = left(body(reason))
    assert warned.value == "The answer is"
    assert len(warned.warnings) == 1
    assert left(body(reason), "ignore").warnings == ()


@pytest.mark.parametrize("reason", WHOLE)
def test_every_known_word_for_a_complete_answer_gives_no_warning(reason: Any) -> None:
    passed = left(body(reason), "fail")
    assert (passed.value, passed.warnings) == ("The answer is", ())


@pytest.mark.parametrize("key", ["finishReason", "finish_details"])
def test_the_finish_reason_is_read_under_each_of_its_keys(key: str) -> None:
    cut = {"type": "max_tokens"} if key == "finish_details" else "MAX_TOKENS"
    assert incomplete(body(None, **{key: cut})) is not None
    assert incomplete(body({"type": "length", "length": 16})) is not None


def test_native_finish_reason_counts_even_if_finish_reason_is_stop() -> None:
    assert "(native_finish_reason MALFORMED_FUNCTION_CALL)" in str(
        incomplete(body("stop", native_finish_reason="MALFORMED_FUNCTION_CALL"))
    )
    assert incomplete(body("stop", native_finish_reason="completed")) is None
    assert list(doubts(body("stop", native_finish_reason="completed"))) == []


def test_content_filter_results_alone_make_an_answer_incomplete() -> None:
    assert incomplete(body(content_filter_results={"hate": {"filtered": True, "severity": "high"}})) is not None
    assert incomplete(body(content_filter_results={"hate": {"filtered": False, "severity": "safe"}})) is None


@pytest.mark.parametrize(
    ("reason", "named"),
    [
        ("brand_new_reason", "(finish_reason brand_new_reason)"),
        ("the kestrel said so", "(a finish_reason that is not a word)"),
        ("x" * 5000, "(a finish_reason that is not a word)"),
        (["length"], "(finish_reason of-type-list)"),
        (7, "(finish_reason of-type-int)"),
    ],
)
def test_an_unknown_finish_reason_is_warned_of_once_without_quoting_a_sentence(reason: Any, named: str) -> None:
    (warning,) = left({"choices": body(reason)["choices"] * 3}, "fail").warnings
    assert warning.startswith("Check that the answer is complete: choices[0]")
    assert named in warning
    assert "kestrel" not in warning


@pytest.mark.parametrize(
    ("message", "is_empty"),
    [
        ({"content": None}, True),
        ({"content": ""}, True),
        ({"content": " \n"}, True),
        ({"content": []}, True),
        ({"content": [{"type": "text", "text": ""}]}, True),
        ({}, True),
        ({"content": None, "tool_calls": []}, True),
        ({"content": "Hi"}, False),
        ({"content": [{"type": "text", "text": "Hi"}]}, False),
        ({"content": [{"type": "image_url", "image_url": {"url": "data:"}}]}, False),
        ({"content": None, "tool_calls": [{"id": "c"}]}, False),
        ({"content": None, "function_call": {"name": "f"}}, False),
        ({"content": None, "audio": {"id": "a"}}, False),
        ({"content": "", "images": [{"type": "image_url"}]}, False),
    ],
)
@pytest.mark.parametrize("reason", ["stop", None])
def test_an_empty_answer_gives_a_warning(message: dict[str, Any], is_empty: bool, reason: str | None) -> None:
    warnings = left(body(reason, message), result_format="raw").warnings
    assert len(warnings) == is_empty
    assert all("the answer is empty" in warning for warning in warnings)


def test_the_warning_of_an_empty_answer_names_the_field_with_text_but_not_the_text() -> None:
    (warning,) = left(body("stop", {"content": "", "reasoning_content": "I see a kestrel"})).warnings
    assert "reasoning_content" in warning
    assert "kestrel" not in warning


def test_an_answer_cut_off_before_its_first_word_gives_one_warning() -> None:
    (warning,) = left(body("length", {"content": ""})).warnings
    assert "length limit" in warning


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "length", "abort"])
@pytest.mark.parametrize("choice", [{"message": None}, {}])
def test_a_missing_message_with_a_known_reason_is_an_incomplete_answer(choice: dict[str, Any], reason: str) -> None:
    answer = {"choices": [{"index": 0, "finish_reason": reason, **choice}]}
    assert flaw(answer, is_json=True) == "choices[0] without a message"
    assert f"(finish_reason {reason})" in str(unanswered(answer))
    reply = Reply(200, answer)
    assert (reply.message, reply.text) == ({}, "")


def test_a_missing_message_without_a_reason_is_not_a_completion() -> None:
    for reason in ("stop", None, "error", "brand_new_reason"):
        assert unanswered({"choices": [{"message": None, "finish_reason": reason}]}) is None
        assert flaw({"choices": [{"message": None, "finish_reason": reason}]}, is_json=True) is not None


def test_a_blocked_prompt_is_an_incomplete_answer() -> None:
    answer = {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}
    assert "a content filter blocked the prompt" in str(unanswered(answer))
    assert remedy(answer) == "Change the prompt"
    assert unanswered({"choices": []}) is None
    assert unanswered({"choices": [], "error": {"message": "No"}, **answer}) is None


def test_a_later_choice_may_lack_a_message() -> None:
    answer = body()
    answer["choices"].append({"index": 1, "message": None, "finish_reason": "content_filter"})
    assert flaw(answer, is_json=True) is None
    assert left(answer).value == "The answer is"
    assert "choices[1]" in left(answer).warnings[0]


@pytest.mark.parametrize(
    ("reason", "todo"),
    [
        ("length", "Raise the token limit or change the prompt: "),
        ("SAFETY", "Change the prompt: "),
        ("network_error", "Ask again: "),
        ("MALFORMED_FUNCTION_CALL", "Ask again or simplify the tools: "),
    ],
)
def test_the_error_of_an_incomplete_answer_starts_with_the_remedy(reason: str, todo: str) -> None:
    assert left(body(reason), "fail").error.message.startswith(todo)


def test_stopped_needs_a_word_for_a_complete_answer() -> None:
    assert stopped(body("stop"))
    assert stopped(body("END_TURN"))
    for reason in (None, "", "length", "brand_new_reason", "FINISH_REASON_UNSPECIFIED"):
        assert not stopped(body(reason))


def test_a_refusal_part_in_the_content_is_a_refusal() -> None:
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}
    assert incomplete(body("stop", refusal)) == "choices[0] is a refusal"
