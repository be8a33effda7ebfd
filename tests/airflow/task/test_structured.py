"""Answers that fit a schema, and tool calls as data: asked for again where they do not fit."""

import json
from collections.abc import Callable
from typing import Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.errors import IncompleteReply, InvalidOutput, InvalidRequest, StatusError
from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent

SCHEMA = {
    "title": "verdict",
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": ["good", "bad"]}},
    "required": ["sentiment"],
    "additionalProperties": False,
}
GOOD, BAD = '{"sentiment": "good"}', '{"sentiment": "so so"}'


class Verdict(BaseModel):
    sentiment: Literal["good", "bad"]
    stars: int = 3


class Tally(BaseModel):
    count: int


class Plain:
    """Pydantic knows nothing of it."""


class NoSchema(BaseModel):
    call: Callable[[], None]


class TestSchema:
    def test_it_goes_out_as_a_strict_response_format_and_the_value_comes_back(self, airflow, chat):
        chat.script(replies.ok(GOOD))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"sentiment": "good"}
        assert sent(chat)["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True},
        }

    def test_an_answer_that_does_not_fit_is_asked_for_again_with_what_is_wrong(self, airflow, chat):
        chat.script(replies.ok(BAD), replies.ok(GOOD))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA, result_format="json")
        xcoms = airflow.run().xcoms()
        assert xcoms["return_value"] == {"sentiment": "good"}
        answer, correction = sent(chat)["messages"][-2:]
        assert answer == {"role": "assistant", "content": BAD}
        assert correction["role"] == "user"
        assert "$.sentiment" in correction["content"]
        assert "'good'" in correction["content"]

    def test_the_usage_of_all_asks_is_counted_and_the_conversation_has_the_last_alone(self, airflow, chat):
        chat.script(replies.ok(BAD), replies.ok(GOOD))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA)
        xcoms = airflow.run().xcoms()
        assert xcoms["body"]["usage"] == {"prompt_tokens": 18, "completion_tokens": 4, "total_tokens": 22}
        assert xcoms["messages"] == [{"role": "user", "content": "Judge"}, {"role": "assistant", "content": GOOD}]

    def test_each_ask_is_a_call_of_its_own_by_its_key(self, airflow, chat):
        chat.script(replies.ok(BAD), replies.ok(GOOD))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA)
        airflow.run()
        assert len({request.headers["idempotency-key"] for request in chat.requests}) == 2

    @pytest.mark.parametrize("retries", [0, 2])
    def test_after_output_retries_the_task_fails_with_the_last_answer_in_body(self, airflow, chat, retries):
        chat.script(*[replies.ok(BAD)] * retries, replies.ok('{"sentiment": 7}'))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA, output_retries=retries)
        run, error = airflow.run(), airflow.error()
        assert isinstance(error, InvalidOutput)
        assert "$.sentiment" in error.message
        assert len(chat.requests) == retries + 1
        body = run.xcoms()["body"]
        assert body["choices"][0]["message"]["content"] == '{"sentiment": 7}'
        assert body["usage"]["total_tokens"] == 11 * (retries + 1)

    def test_json_in_a_code_fence_fits(self, airflow, chat):
        chat.script(replies.ok(f"```json\n{GOOD}\n```"))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"sentiment": "good"}

    def test_half_an_answer_is_incomplete_and_not_asked_for_again(self, airflow, chat):
        chat.script(replies.ok('{"sentiment": "go', finish_reason="length"))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA)
        airflow.run()
        assert isinstance(airflow.error(), IncompleteReply)
        assert len(chat.requests) == 1

    def test_a_long_answer_is_not_sent_back_whole(self, airflow, chat):
        chat.script(replies.ok(json.dumps({"sentiment": "x" * 500_000})), replies.ok(GOOD))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA)
        assert airflow.run().state == "success"
        assert len(chat.requests[-1].body) < 40_000

    def test_a_format_that_the_user_gave_is_not_changed_and_the_answer_checked_all_the_same(self, airflow, chat):
        chat.script(replies.ok(BAD), replies.ok(BAD))
        own = {"type": "json_object"}
        with airflow.dag():
            ask(prompt="Judge in JSON", request={"response_format": own}, response_schema=SCHEMA)
        airflow.run()
        assert sent(chat)["response_format"] == own
        assert isinstance(airflow.error(), InvalidOutput)


class TestClass:
    def test_a_pydantic_model_makes_a_strict_schema_and_checks_the_answer(self, airflow, chat):
        chat.script(replies.ok('{"sentiment": "good", "stars": "many"}'), replies.ok('{"sentiment": "good"}'))
        with airflow.dag():
            ask(prompt="Judge", response_schema=Verdict, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"sentiment": "good"}
        told = sent(chat)["response_format"]["json_schema"]
        assert (told["name"], told["strict"]) == ("Verdict", True)
        assert told["schema"]["required"] == ["sentiment", "stars"]
        assert told["schema"]["additionalProperties"] is False

    def test_a_mapped_task_takes_one_and_what_it_leaves_needs_no_class_to_be_read(self, airflow, chat):
        chat.default = replies.ok(GOOD)
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask", response_schema=Verdict, result_format="json").expand(
                prompt=["a", "b"]
            )
        assert airflow.run().xcoms(map_index=1)["return_value"] == {"sentiment": "good"}

    def test_its_own_rules_count_too(self, airflow, chat):
        from pydantic import field_validator

        class Even(BaseModel):
            number: int

            @field_validator("number")
            @classmethod
            def even(cls, value: int) -> int:
                if value % 2:
                    raise ValueError("must be even")
                return value

        chat.script(replies.ok('{"number": 1}'), replies.ok('{"number": 2}'))
        with airflow.dag():
            ask(prompt="Count", response_schema=Even, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"number": 2}
        assert "must be even" in sent(chat)["messages"][-1]["content"]

    def test_a_validator_that_breaks_is_an_answer_that_does_not_fit(self, airflow, chat):
        from pydantic import field_validator

        class Broken(BaseModel):
            number: int

            @field_validator("number")
            @classmethod
            def broken(cls, value: int) -> int:
                raise KeyError(value)

        chat.default = replies.ok('{"number": 1}')
        with airflow.dag():
            ask(prompt="Count", response_schema=Broken)
        airflow.run()
        assert "fails on it (KeyError)" in airflow.error().message


def refusing(*kinds):
    """A server that takes no response_format of these kinds."""

    def answer(request):
        kind = request.json.get("response_format", {}).get("type")
        return replies.error(400, "response_format is not supported") if kind in kinds else replies.ok(GOOD)

    return answer


def refusing_schemas(word):
    """A server that takes every form, but no schema with this keyword."""

    def answer(request):
        schema = request.json.get("response_format", {}).get("json_schema")
        if word in json.dumps(schema):
            return replies.error(400, f"Invalid schema for response_format: '{word}' is not permitted")
        return replies.ok(GOOD)

    return answer


def forms(chat):
    """The type of response_format of each request."""
    return [request.json.get("response_format", {}).get("type") for request in chat.requests]


def spoilt(code="json_validate_failed", generation='{"canary": ', status=400):
    said = "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details."
    failed = {"message": said, "type": "invalid_request_error", "code": code, "failed_generation": generation}
    return replies.json_reply(status, {"error": failed})


class TestLadder:
    def test_a_server_without_json_schema_is_asked_with_json_object_and_the_schema_in_words(self, airflow, chat):
        chat.default = refusing("json_schema")
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"sentiment": "good"}
        assert sent(chat)["response_format"] == {"type": "json_object"}
        first = sent(chat)["messages"][0]
        assert first["role"] == "system"
        assert json.dumps(SCHEMA) in first["content"]

    def test_one_without_that_either_is_asked_by_the_prompt_alone(self, airflow, chat):
        chat.default = refusing("json_schema", "json_object")
        with airflow.dag():
            ask(prompt="Judge", system_prompt="Be fair.", response_schema=SCHEMA)
        assert airflow.run().state == "success"
        assert "response_format" not in sent(chat)
        assert sent(chat)["messages"][0]["content"].startswith("Be fair.\n\nAnswer in JSON")
        assert [request.json.get("response_format", {}).get("type") for request in chat.requests] == [
            "json_schema",
            "json_object",
            None,
        ]

    def test_what_a_server_refuses_is_remembered_and_said_once(self, airflow, chat, caplog):
        chat.default = refusing("json_schema")
        with airflow.dag():
            first = ask(prompt="Judge", response_schema=SCHEMA)
            first >> ChatCompletionOperator(task_id="again", prompt="Judge", response_schema=SCHEMA)
        airflow.run()
        if not airflow.deferrable:  # a task that is resumed learns it when it has the last reply
            assert len(chat.requests) == 3
        assert sum("refuses json_schema" in record.getMessage() for record in caplog.records) == 1

    def test_a_request_that_is_refused_in_every_form_fails_with_the_first_refusal(self, airflow, chat):
        chat.script(replies.error(400, "the first"), replies.error(400, "b"), replies.error(400, "c"))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA)
        airflow.run()
        assert isinstance(airflow.error(), StatusError)
        assert "the first" in airflow.error().message

    @pytest.mark.parametrize(
        "reason",
        [
            ("too long", "context_length_exceeded"),
            ("This model's maximum context length is 16384 tokens. However, you requested 19591 tokens.",),
            ("The response was filtered due to Azure OpenAI's content management policy.", "content_filter"),
            ("The model `m` does not exist", "model_not_found"),
            ("Unsupported value: 'messages[0].content'",),
        ],
        ids=lambda reason: reason[-1][:20],
    )
    def test_a_refusal_for_another_reason_is_the_answer(self, airflow, chat, reason):
        chat.script(replies.error(400, *reason))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA)
        airflow.run()
        assert isinstance(airflow.error(), StatusError)
        assert len(chat.requests) == 1

    def test_one_schema_that_is_refused_weakens_no_other(self, airflow, chat, caplog):
        chat.default = refusing_schemas("minLength")
        short = {**SCHEMA, "title": "short", "properties": {"sentiment": {"type": "string", "minLength": 1}}}
        with airflow.dag():
            first = ask(prompt="Judge", response_schema=short)
            again = ChatCompletionOperator(task_id="again", prompt="Judge", response_schema=short)
            other = ChatCompletionOperator(task_id="other", prompt="Judge", response_schema=SCHEMA)
            first >> again >> other
        assert airflow.run().state == "success"
        assert forms(chat) == ["json_schema", "json_object", "json_object", "json_schema"]
        assert sum("refuses the response_schema short as" in record.getMessage() for record in caplog.records) == 1

    def test_a_form_of_the_user_s_own_is_sent_once_and_not_changed(self, airflow, chat):
        chat.default = refusing("json_schema", "json_object")
        with airflow.dag():
            ask(prompt="Judge in JSON", request={"response_format": {"type": "json_object"}}, response_schema=SCHEMA)
        airflow.run()
        assert forms(chat) == ["json_object"]
        assert isinstance(airflow.error(), StatusError)

    def test_a_server_that_ignores_the_form_is_told_the_schema_when_it_is_asked_again(self, airflow, chat):
        def answer(request):
            knows = json.dumps(SCHEMA) in request.json["messages"][-1]["content"]
            return replies.ok(GOOD if knows else "The mood is good.")

        chat.default = answer
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"sentiment": "good"}
        assert forms(chat) == ["json_schema", "json_schema"]


class TestSpoiltAnswers:
    def test_one_is_asked_for_again_in_the_same_form_and_the_next_task_has_it_too(self, airflow, chat, caplog):
        chat.script(spoilt(), replies.ok(GOOD), replies.ok(GOOD))
        with airflow.dag():
            first = ask(prompt="Judge", response_schema=SCHEMA, result_format="json")
            first >> ChatCompletionOperator(task_id="again", prompt="Judge", response_schema=SCHEMA)
        run = airflow.run()
        assert run.xcoms()["return_value"] == {"sentiment": "good"}
        assert forms(chat) == ["json_schema"] * 3
        assert sent(chat, 1)["messages"][-2] == {"role": "assistant", "content": '{"canary": '}
        assert len({request.headers["idempotency-key"] for request in chat.requests}) == 3
        assert "canary" not in caplog.text

    def test_after_output_retries_the_task_fails_with_the_server_s_words(self, airflow, chat, caplog):
        chat.script(replies.ok(BAD), spoilt(), spoilt())
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA, output_retries=2)
        run, error = airflow.run(), airflow.error()
        assert isinstance(error, StatusError)
        assert (error.status, error.code, error.final) == (400, "json_validate_failed", False)
        assert error.message.startswith("Ask again (see output_retries)")
        assert "Failed to generate JSON" in error.message
        assert len(chat.requests) == 3
        xcoms = run.xcoms()
        assert (xcoms["status"], xcoms["body"]["error"]["code"]) == (400, "json_validate_failed")
        assert xcoms["body"]["usage"]["total_tokens"] == 11
        assert "canary" not in caplog.text + error.message

    def test_one_in_a_stream_is_asked_for_again(self, airflow, chat):
        chat.script(replies.sse([json.loads(spoilt().body)]), replies.stream(GOOD))
        with airflow.dag():
            ask(prompt="Judge", request={"stream": True}, response_schema=SCHEMA, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"sentiment": "good"}

    def test_one_that_nobody_checks_is_an_error(self, airflow, chat):
        chat.script(spoilt("tool_use_failed"))
        with airflow.dag():
            ask(prompt="Judge")
        airflow.run()
        assert isinstance(airflow.error(), StatusError)
        assert len(chat.requests) == 1

    def test_one_that_the_token_limit_cut_off_is_incomplete_and_not_asked_for_again(self, airflow, chat):
        chat.script(spoilt(generation="max completion tokens reached before generating a valid document"))
        with airflow.dag():
            ask(prompt="Judge", response_schema=SCHEMA)
        run = airflow.run()
        assert isinstance(airflow.error(), IncompleteReply)
        assert airflow.error().message.startswith("Raise the token limit")
        assert run.xcoms()["body"]["error"]["code"] == "json_validate_failed"
        assert len(chat.requests) == 1


class TestBadSchemas:
    @pytest.mark.parametrize(
        "schema",
        [{"type": "objekt"}, {"properties": []}, {"enum": {1, 2}}, "no/such.json", Plain, NoSchema],
        ids=["type", "properties", "no JSON", "file", "class", "a field without a schema"],
    )
    def test_what_is_no_schema_breaks_the_import(self, airflow, schema):
        with airflow.dag(), pytest.raises(InvalidRequest) as caught:
            ask(prompt="Judge", response_schema=schema)
        assert caught.value.path == "response_schema"

    def test_one_from_a_file_is_read(self, airflow, chat, tmp_path):
        (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
        chat.script(replies.ok(GOOD))
        with airflow.dag():
            ask(prompt="Judge", response_schema=str(tmp_path / "schema.json"))
        assert airflow.run().state == "success"
        assert sent(chat)["response_format"]["json_schema"]["schema"] == SCHEMA

    def test_one_that_no_strict_server_takes_is_sent_as_not_strict_with_a_warning_that_names_the_place(
        self, airflow, chat, caplog
    ):
        chat.script(replies.ok('{"a": {"b": 1}}'))
        loose = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}}}
        with airflow.dag():
            ask(prompt="Judge", response_schema=loose)
        assert airflow.run().state == "success"
        assert sent(chat)["response_format"]["json_schema"]["strict"] is False
        assert "response_schema is an object without additionalProperties: false" in caplog.text
        assert "strict out" not in caplog.text  # nobody wrote `strict`

    def test_one_that_refers_to_itself_checks_as_deep_as_the_answer_goes(self, airflow, chat):
        tree = {
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "n": {"type": "integer"}},
            "required": ["n"],
        }
        chat.script(replies.ok('{"n": 1, "children": [{"n": 2, "children": [{}]}]}'), replies.ok('{"n": 1}'))
        with airflow.dag():
            ask(prompt="Grow", response_schema=tree, result_format="json")
        assert airflow.run().xcoms()["return_value"] == {"n": 1}
        assert "$.children[0].children[0]" in sent(chat)["messages"][-1]["content"]

    def test_one_that_refers_to_itself_without_end_breaks_the_import(self, airflow):
        with airflow.dag(), pytest.raises(InvalidRequest, match="without end"):
            ask(prompt="Judge", response_schema={"$ref": "#"})


class TestTypes:
    """Lists, unions and other types are asked for as an object, and the task returns what is in it."""

    @pytest.mark.parametrize(
        ("schema", "value", "key"),
        [
            (list[Verdict], [{"sentiment": "good"}], "items"),
            (TypeAdapter(list[Verdict]), [{"sentiment": "bad", "stars": 1}], "items"),
            (Verdict | Tally, {"count": 3}, "answer"),
            (Literal["good", "bad"], "good", "answer"),
            ({"type": "array", "items": SCHEMA}, [{"sentiment": "good"}], "items"),
        ],
        ids=["list", "adapter", "union", "literal", "JSON Schema"],
    )
    def test_the_value_comes_back_without_the_object_that_the_server_was_asked_for(
        self, airflow, chat, schema, value, key
    ):
        chat.script(replies.ok(json.dumps({key: 5})), replies.ok(json.dumps({key: value})))
        with airflow.dag():
            ask(prompt="Judge", response_schema=schema, result_format="json")
        xcoms = airflow.run().xcoms()
        assert xcoms["return_value"] == value
        assert xcoms["messages"][-1]["content"] == json.dumps({key: value})
        asked = sent(chat, 0)["response_format"]["json_schema"]
        assert asked["strict"] is True
        assert asked["schema"]["required"] == [key]
        assert f"$.{key}: must " in sent(chat)["messages"][-1]["content"] or key == "answer"

    def test_a_decorated_function_takes_them_and_its_annotation_means_nothing(self, airflow, chat):
        chat.default = replies.ok('{"items": [{"sentiment": "good"}]}')
        with airflow.dag():

            @chat_completion(response_schema=list[Verdict], result_format="json")
            def judge(text: str) -> list[str]:
                return [{"role": "user", "content": text}]  # type: ignore[list-item]

            @chat_completion(result_format="text")
            def plain(text: str) -> Verdict:
                return text  # type: ignore[return-value]

            judge("a") >> plain("b")
        run = airflow.run()
        assert run.xcoms("judge")["return_value"] == [{"sentiment": "good"}]
        assert "response_format" not in sent(chat)

    def test_a_mapped_task_takes_them_too(self, airflow, chat):
        chat.default = replies.ok('{"items": [{"sentiment": "good"}]}')
        with airflow.dag():
            ChatCompletionOperator.partial(task_id="ask", response_schema=list[Verdict], result_format="json").expand(
                prompt=["a", "b"]
            )
        assert airflow.run().xcoms(map_index=1)["return_value"] == [{"sentiment": "good"}]

    def test_they_have_no_keys_for_multiple_outputs(self, airflow):
        with airflow.dag(), pytest.raises(InvalidRequest, match="does not describe an object"):
            ask(prompt="Judge", response_schema=list[Verdict], result_format="json", multiple_outputs=True)

    @pytest.mark.parametrize(
        ("schema", "says"),
        [
            (Verdict(sentiment="good"), "Give response_schema the class Verdict, not an instance of it"),
            ([Verdict], "Write response_schema=list[Verdict] instead"),
            ((Verdict, Tally), "Write response_schema=Verdict | Tally"),
            ('{"type": "object"}', "Give response_schema as a dict, json.loads(text)"),
            ("Verdict", "which is 'Verdict': it must be a JSON Schema (a dict)"),
            (5, "which is 5: it must be a JSON Schema (a dict)"),
        ],
        ids=["instance", "a list", "a tuple", "JSON text", "a name", "a number"],
    )
    def test_what_is_none_is_told_what_to_write(self, airflow, schema, says):
        with airflow.dag(), pytest.raises(InvalidRequest) as caught:
            ask(prompt="Judge", response_schema=schema)
        assert says in caught.value.message[:110]
        assert caught.value.path == "response_schema"


@pytest.mark.parametrize("retries", [-1, 1.5, "2", True])
def test_output_retries_is_a_number_of_asks(airflow, retries):
    with airflow.dag(), pytest.raises(InvalidRequest, match="output_retries"):
        ask(prompt="Judge", response_schema=SCHEMA, output_retries=retries)
