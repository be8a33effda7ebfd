"""Chunks put together: the body is what the same call returns unstreamed."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_chat_provider.core.call.chunks.assembly import Assembly
from tests.support.chunks import FIRST, body, call, choice, fragment, message

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_a_stream_of_text_is_a_completion() -> None:
    made = body(
        choice({"role": "assistant", "content": "", "refusal": None}, logprobs=None, finish_reason=None),
        choice({"content": "He"}, finish_reason=None),
        choice({"content": "llo"}, finish_reason=None),
        choice({}, finish_reason="stop"),
        {**FIRST, "choices": [], "usage": USAGE},
    )
    assert made == {
        **FIRST,
        "object": "chat.completion",
        "usage": USAGE,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
            }
        ],
    }


def test_choices_are_told_apart_by_their_index_and_come_in_order() -> None:
    made = body(
        choice({"content": "b"}, 1),
        {**FIRST, "choices": [{"index": 2, "delta": {"content": "c"}}, {"index": 0, "delta": {"content": "a"}}]},
        choice({"content": "B"}, 1, finish_reason="stop"),
        choice({"content": "A"}, 0, finish_reason="length"),
    )
    assert [(one["index"], one["message"]["content"], one["finish_reason"]) for one in made["choices"]] == [
        (0, "aA", "length"),
        (1, "bB", "stop"),
        (2, "c", None),
    ]


def test_choices_without_an_index_are_told_apart_by_their_place() -> None:
    chunk = {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}
    made = body(chunk, chunk)
    assert [(one["index"], one["message"]["content"]) for one in made["choices"]] == [(0, "aa"), (1, "bb")]


def test_an_index_may_be_a_text() -> None:
    made = body(*({"choices": [{"index": index, "delta": {"content": index}}]} for index in ("0", "1", "0")))
    assert [(one["index"], one["message"]["content"]) for one in made["choices"]] == [(0, "00"), (1, "1")]


def test_a_stream_is_finished_when_every_choice_has_its_finish_reason() -> None:
    assembly = Assembly()
    assert (assembly.empty, assembly.finished) == (True, False)
    assembly.add(choice({"content": "a"}, 0, finish_reason="stop"))
    assert (assembly.empty, assembly.finished) == (False, True)
    assembly.add(choice({"content": "b"}, 1, finish_reason=None))
    assert not assembly.finished
    assembly.add(choice({}, 1, finish_reason="stop"))
    assert assembly.finished


@pytest.mark.parametrize("later", [None, ""])
def test_a_finish_reason_stays(later: str | None) -> None:
    made = body(choice({}, finish_reason="stop"), choice({}, finish_reason=later))
    assert made["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "last",
    [
        {"usage": USAGE, "choices": []},
        {"usage": USAGE},
        choice({}, finish_reason="stop") | {"usage": USAGE},
        choice({}, finish_reason="stop") | {"x_groq": {"id": "r", "usage": USAGE}},
    ],
)
def test_usage_is_where_the_unstreamed_body_has_it(last: dict[str, Any]) -> None:
    assert body({**choice({"content": "a"}), "usage": None}, last)["usage"] == USAGE


def test_the_last_usage_counts() -> None:
    assert body({"usage": {"total_tokens": 1}}, {"usage": USAGE}, {"usage": None})["usage"] == USAGE


def test_without_usage_there_is_no_such_field() -> None:
    assert "usage" not in body({**choice({"content": "a"}), "usage": None, "x_groq": {"id": "r"}})


def test_usage_that_a_later_chunk_has_empty_stays() -> None:
    assert body({"usage": USAGE}, {"usage": {}}, {"usage": None})["usage"] == USAGE


@pytest.mark.parametrize("top", [{}, {"usage": None}, {"usage": {}}])
def test_usage_of_a_choice_is_the_bodys(top: dict[str, Any]) -> None:
    first = choice({"content": "a"}, usage={"total_tokens": 1})
    made = body(first, {**choice({}, finish_reason="stop", usage=USAGE), **top}, choice({}, usage=None))
    assert made["usage"] == USAGE
    assert "usage" not in made["choices"][0]


def test_usage_of_a_choice_stays_there_where_the_body_has_its_own() -> None:
    made = body(choice({}, finish_reason="stop", usage={"total_tokens": 1}), {"choices": [], "usage": USAGE})
    assert (made["usage"], made["choices"][0]["usage"]) == (USAGE, {"total_tokens": 1})


def test_usages_of_several_choices_that_differ_are_nobodys_sum() -> None:
    made = body(*(choice({}, index, usage={"total_tokens": index}) for index in (1, 2)))
    assert "usage" not in made
    assert [one["usage"]["total_tokens"] for one in made["choices"]] == [1, 2]


def test_token_ids_of_all_chunks_are_chained_and_those_of_the_prompt_are_not_repeated() -> None:
    made = body(
        {**choice({"role": "assistant", "content": ""}, token_ids=None), "prompt_token_ids": [7, 8]},
        {**choice({"content": "a"}, token_ids=[1, 1]), "prompt_token_ids": None},
        {**choice({"content": "b"}, token_ids=[1]), "prompt_token_ids": [7, 8]},
        choice({}, token_ids=[], finish_reason="stop"),
    )
    assert (made["choices"][0]["token_ids"], made["prompt_token_ids"]) == ([1, 1, 1], [7, 8])


def test_token_ids_that_were_not_asked_for_stay_null() -> None:
    assert body(choice({"content": "a"}, token_ids=None), choice({}, token_ids=None))["choices"][0]["token_ids"] is None


def test_id_created_and_model_are_the_first_that_say_something() -> None:
    made = body(
        {"id": "", "created": 0, "model": "", "choices": []},
        {"id": "a", "created": 1, "model": "m", "choices": []},
        {"id": "b", "created": 2, "model": "n", "choices": []},
    )
    assert (made["id"], made["created"], made["model"]) == ("a", 1, "m")


@pytest.mark.parametrize("none", [None, "", "null"])
def test_a_finish_reason_in_geminis_spelling_counts(none: str | None) -> None:
    assembly = Assembly()
    finished = []
    for delta, camel in (("a", None), ("b", "stop")):
        assembly.add(choice({"content": delta}, finish_reason=none, finishReason=camel))
        finished.append(assembly.finished)
    assert finished == [False, True]
    assert assembly.body()["choices"] == [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ab"}}
    ]


@pytest.mark.parametrize("role", [None, ""])
def test_a_role_that_no_chunk_says_is_the_assistants(role: str | None) -> None:
    assert message({"role": role, "content": "a"})["role"] == "assistant"


def test_how_many_choices_have_begun_is_known() -> None:
    assembly = Assembly()
    assembly.add({"choices": []})
    assert assembly.begun == 0
    assembly.add(choice({}, 3))
    assembly.add(choice({}, 0))
    assembly.add(choice({}, 3))
    assert assembly.begun == 2


def test_a_choice_without_a_delta_has_a_message_all_the_same() -> None:
    made = body({"choices": [{"index": 0, "finish_reason": "stop"}]})
    assert made["choices"][0]["message"] == {"role": "assistant", "content": None}


def test_azures_chunks_without_choices_or_delta() -> None:
    verdict = {"hate": {"filtered": False, "severity": "safe"}}
    made = body(
        {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"x": 1}]},
        choice({"role": "assistant", "content": "Hi"}, content_filter_results={}),
        {**FIRST, "choices": [{"index": 0, "content_filter_results": verdict, "content_filter_offsets": {"end": 1}}]},
        choice({}, finish_reason="stop", content_filter_results={}),
    )
    assert (made["id"], made["model"], made["object"]) == ("c", "m", "chat.completion")
    assert made["created"] == 7
    assert made["prompt_filter_results"] == [{"x": 1}]
    assert made["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "content_filter_results": verdict,
            "content_filter_offsets": {"end": 1},
            "message": {"role": "assistant", "content": "Hi"},
        }
    ]


def test_log_probabilities_are_chained() -> None:
    tokens = [
        {"token": t, "logprob": -0.5, "bytes": [1, 2], "top_logprobs": [{"token": t}] * 2} for t in ("a", "a", "")
    ]
    made = body(
        choice({}, logprobs={"content": [], "refusal": None}),
        choice({"content": "aa"}, logprobs={"content": tokens[:2], "refusal": None}),
        choice({}, logprobs=None),
        choice({"refusal": "n"}, logprobs={"content": None, "refusal": tokens[2:]}),
    )
    assert made["choices"][0]["logprobs"] == {"content": tokens[:2], "refusal": tokens[2:]}


@pytest.mark.parametrize("field", ["refusal", "reasoning", "reasoning_content", "vendor_text"])
def test_text_is_joined_whatever_its_name(field: str) -> None:
    assert message({field: None}, {field: "a"}, {field: ""}, {field: None}, {field: "b"})[field] == "ab"


@pytest.mark.parametrize("before", [None, ""])
def test_mistrals_content_is_a_list_of_parts_then_text(before: str | None) -> None:
    def thinking(text: str) -> dict[str, Any]:
        return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}

    made = message(
        {"content": before}, thinking("hm"), thinking("m"), {"content": "He"}, {"content": "y"}, {"content": ""}
    )
    assert made["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]},
        {"type": "text", "text": "Hey"},
    ]


def test_empty_text_after_parts_is_no_part() -> None:
    parts = [{"type": "image_url", "image_url": "u"}]
    assert message({"content": parts}, {"content": ""})["content"] == parts


def test_text_before_parts_is_the_first_part() -> None:
    part = {"type": "reference", "reference_ids": [1]}
    assert message({"content": "a"}, {"content": [part]}, {"content": [part]})["content"] == [
        {"type": "text", "text": "a"},
        part,
        part,
    ]


def test_content_may_be_one_part() -> None:
    made = message({"content": {"type": "text", "text": "He"}}, {"content": {"type": "text", "text": "y"}})
    assert made["content"] == [{"type": "text", "text": "Hey"}]
    assert message({"content": "He"}, {"content": {"type": "text", "text": "y"}}) == made


@pytest.mark.parametrize("odd", [0, 1, False, True, 2.5, None, "", [], {}])
def test_what_has_come_is_not_erased_by_another_kind_of_value(odd: Any) -> None:
    calls = [{"index": 0, **call("a", "f", "{}")}]
    made = message({"content": "a", "tool_calls": calls}, {"content": odd, "tool_calls": odd}, {"content": "b"})
    content = made["content"] if isinstance(made["content"], str) else made["content"][0]["text"]
    assert (content, made["tool_calls"]) == ("ab", [call("a", "f", "{}")])


def test_vendor_fields_are_kept() -> None:
    made = message(
        {"annotations": [{"url": "a"}], "audio": {"id": "x", "data": "AA", "expires_at": 1}, "score": 1, "tags": ["s"]},
        {
            "annotations": [{"url": "b"}],
            "audio": {"id": "x", "data": "BB", "transcript": "t"},
            "score": 2,
            "tags": ["s"],
        },
    )
    assert made["annotations"] == [{"url": "a"}, {"url": "b"}]
    assert made["audio"] == {"id": "x", "data": "AABB", "expires_at": 1, "transcript": "t"}
    assert (made["score"], made["tags"]) == (2, ["s", "s"])


def test_top_level_fields_are_the_last_that_say_something() -> None:
    made = body(
        {"id": "c", "system_fingerprint": "f", "citations": ["a"], "provider": "p"},
        {"id": "c", "system_fingerprint": None, "citations": ["a", "b"], "provider": ""},
    )
    assert (made["system_fingerprint"], made["citations"], made["provider"]) == ("f", ["a", "b"], "p")


def test_reasoning_details_are_joined_by_their_index() -> None:
    def details(*items: dict[str, Any]) -> dict[str, Any]:
        return {"reasoning_details": list(items)}

    text = {"type": "reasoning.text", "format": "v1", "index": 0}
    made = message(
        details({**text, "text": "a"}),
        details({**text, "text": "b"}, {**text, "index": 1, "text": "c"}),
        details({**text, "signature": "s"}),
    )
    assert made["reasoning_details"] == [{**text, "text": "ab", "signature": "s"}, {**text, "index": 1, "text": "c"}]


def test_reasoning_details_of_one_index_and_two_types_are_two() -> None:
    text = {"type": "reasoning.text", "format": "google-gemini-v1", "index": 0}
    encrypted = {"type": "reasoning.encrypted", "format": "google-gemini-v1", "index": 0, "id": "t"}
    made = message(
        {"reasoning_details": [{**text, "text": "a"}]},
        {"reasoning_details": [{**encrypted, "data": "x=="}]},
        {"reasoning_details": [{**text, "text": "b"}]},
    )
    assert made["reasoning_details"] == [{**text, "text": "ab"}, {**encrypted, "data": "x=="}]


def test_reasoning_details_without_an_index_continue_the_last_of_their_type() -> None:
    text, summary = {"type": "reasoning.text"}, {"type": "reasoning.summary"}
    made = message(
        {"reasoning_details": [{**text, "text": "a"}]},
        {"reasoning_details": [{**text, "text": "b", "signature": None}]},
        {"reasoning_details": [{**text, "signature": "s"}]},
        {"reasoning_details": [{**summary, "summary": "c"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
    )
    assert made["reasoning_details"] == [
        {**text, "text": "ab", "signature": "s"},
        {**summary, "summary": "c"},
        {"type": "reasoning.encrypted", "data": "x"},
        {"type": "reasoning.encrypted", "data": "x"},
    ]


@pytest.mark.parametrize("field", ["annotations", "images", "citations"])
def test_a_list_of_whole_things_may_come_again_and_longer(field: str) -> None:
    image = {"type": "image_url", "index": 0, "image_url": {"url": "data:image/png;base64,AA=="}}
    other = {**image, "index": 1}
    assert message({field: [image]}, {field: [image, other]}, {field: [image, other]})[field] == [image, other]
    assert message({field: [image]}, {field: [other]}, {"content": "a"})[field] == [image, other]


def test_a_signature_that_comes_with_each_piece_is_not_doubled() -> None:
    made = message(*({"reasoning_content": piece, "thought_signature": "s"} for piece in "ab"))
    assert (made["reasoning_content"], made["thought_signature"]) == ("ab", "s")


def test_obfuscation_is_dropped() -> None:
    assert "obfuscation" not in body({**choice({"content": "a"}), "obfuscation": "xyz"})


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": None},
        {"choices": "no"},
        {"choices": [None, 1]},
        choice(None),
        choice("text"),
        choice({"tool_calls": "no"}),
        choice({"tool_calls": {"index": 0}}),
        choice({"tool_calls": [None, "no"]}),
        choice({"tool_calls": [{"index": "0", "function": "no"}]}),
        choice({"content": {"text": 1}, "role": 7}),
        choice({"content": [1, [2], None]}, logprobs=[1]),
        {"choices": [{"index": None, "delta": [], "message": 3, "logprobs": "x"}]},
    ],
)
def test_chunks_of_any_shape_can_be_put_together(chunk: dict[str, Any]) -> None:
    good = choice({"content": "a", "tool_calls": [{"index": 0, **call("a", "f", "{}")}]}, logprobs={"content": []})
    for chunks in ([chunk], [good, chunk], [chunk, good], [chunk, chunk, good, chunk]):
        assert body(*chunks)["object"] == "chat.completion"


def test_putting_together_leaves_the_chunks_as_they_are() -> None:
    chunk = choice({"tool_calls": [{"index": 0, **call("a", "f", "{")}], "details": [{"type": "text", "text": "a"}]})
    copy = choice({"tool_calls": [{"index": 0, **call("a", "f", "{")}], "details": [{"type": "text", "text": "a"}]})
    body(chunk, chunk)
    assert chunk == copy


def test_a_body_can_be_asked_for_while_chunks_still_come() -> None:
    assembly = Assembly()
    assembly.add(choice({"content": "a", "tool_calls": [{"index": 0, **call("a", "f", "{")}]}))
    assembly.body()
    assembly.add(choice({"content": "b", "tool_calls": [fragment("}", index=0)]}))
    made = assembly.body()["choices"][0]["message"]
    assert (made["content"], made["tool_calls"]) == ("ab", [call("a", "f", "{}")])


def test_twenty_thousand_chunks_are_no_matter() -> None:
    token = {"token": "ab", "logprob": -1.0}
    delta = {"content": "ab", "tool_calls": [{"index": 0, "function": {"arguments": "cd"}}]}
    chunk = choice(delta, logprobs={"content": [token]})
    made = body(*[chunk] * 20_000)["choices"][0]
    assert made["message"]["content"] == "ab" * 20_000
    assert made["message"]["tool_calls"][0]["function"]["arguments"] == "cd" * 20_000
    assert len(made["logprobs"]["content"]) == 20_000
