"""Answers of a batch that have to fit: each row is asked again by itself, and counted whole."""

import json

import pytest
from pydantic import BaseModel

from airflow_chat_provider.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.testing import replies
from tests.support.batching import prompt_of


class Verdict(BaseModel):
    good: bool


def test_each_row_has_its_value_and_an_answer_that_does_not_fit_is_asked_for_again(batch):
    batch.texts(3)

    def answer(request):
        again = len(request.json["messages"]) > 1
        return replies.ok('{"good": true}' if again or prompt_of(request) != "row 1" else '{"good": "yes"}')

    batch.chat.default = answer
    manifest = batch.run(response_schema=Verdict, result_format="json", response_key="verdict")
    assert [line["verdict"] for line in batch.results] == [{"good": True}] * 3
    assert len(batch.chat.requests) == 4
    assert batch.results[1]["usage"]["total_tokens"] == 22
    assert manifest["usage"]["total_tokens"] == 44
    assert len({request.headers["idempotency-key"] for request in batch.chat.requests}) == 4


def test_a_list_of_models_is_kept_without_the_object_that_the_server_was_asked_for(batch):
    batch.texts(2)
    batch.chat.default = replies.ok('{"items": [{"good": true}]}')
    batch.run(response_schema=list[Verdict], result_format="json", response_key="verdicts")
    assert [line["verdicts"] for line in batch.results] == [[{"good": True}]] * 2


def test_a_row_whose_answers_never_fit_fails_alone_and_keeps_the_last(batch):
    batch.texts(2)
    batch.chat.default = lambda request: replies.ok(
        '{"good": 1}' if request.json["messages"][0]["content"] == "row 1" else '{"good": true}'
    )
    manifest = batch.run(response_schema=Verdict, result_format="json", max_failures=1)
    assert manifest["failed"] == {"InvalidOutput 200": 1}
    (line,) = batch.errors
    assert "$.good" in line["error"]["message"]
    assert line["body"]["choices"][0]["message"]["content"] == '{"good": 1}'


def test_a_form_that_the_server_refuses_is_not_sent_for_the_other_rows(batch):
    batch.texts(5)

    def answer(request):
        kind = request.json.get("response_format", {}).get("type")
        return replies.error(400, "no json_schema") if kind == "json_schema" else replies.ok('{"good": true}')

    batch.chat.default = answer
    assert batch.run(response_schema=Verdict, result_format="json", max_concurrency=1)["succeeded"] == 5
    assert len(batch.chat.requests) == 6


def test_a_row_that_is_refused_for_another_reason_fails_alone_and_the_others_keep_their_form(batch):
    batch.texts(4)

    def answer(request):
        if prompt_of(request) == "row 1":
            return replies.error(400, "The prompt triggered the content management policy", "content_filter")
        return replies.ok('{"good": true}')

    batch.chat.default = answer
    manifest = batch.run(response_schema=Verdict, result_format="json", max_concurrency=1, max_failures=1)
    assert manifest["failed"] == {"StatusError 400": 1}
    assert [request.json["response_format"]["type"] for request in batch.chat.requests] == ["json_schema"] * 4


def test_a_row_whose_answer_the_server_could_not_use_is_asked_again_in_the_same_form(batch):
    batch.texts(3)
    failed = {"message": "Failed to generate JSON.", "code": "json_validate_failed", "failed_generation": "{"}
    told: list[object] = []

    def answer(request):
        if request.json["messages"][0]["content"] == "row 1" and not told:
            told.append(request)
            return replies.json_reply(400, {"error": failed})
        return replies.ok('{"good": true}')

    batch.chat.default = answer
    assert batch.run(response_schema=Verdict, result_format="json", max_concurrency=1)["succeeded"] == 3
    assert [request.json["response_format"]["type"] for request in batch.chat.requests] == ["json_schema"] * 4


def test_a_row_whose_answers_the_server_can_never_use_fails_alone_with_its_words(batch):
    batch.texts(2)
    failed = {"message": "Failed to generate JSON.", "code": "json_validate_failed", "failed_generation": "canary"}

    def answer(request):
        if request.json["messages"][0]["content"] == "row 1":
            return replies.json_reply(400, {"error": failed})
        return replies.ok('{"good": true}')

    batch.chat.default = answer
    manifest = batch.run(response_schema=Verdict, result_format="json", max_failures=1)
    assert manifest["failed"] == {"StatusError 400": 1}
    (line,) = batch.errors
    assert "Failed to generate JSON." in line["error"]["message"]
    assert "canary" not in line["error"]["message"]
    assert batch.times["row 1"] == 1


def test_a_refused_schema_steps_down_for_itself_and_no_other_schema(batch):
    batch.texts(3)

    def answer(request):
        schema = request.json.get("response_format", {}).get("json_schema")
        refused = "minLength" in json.dumps(schema)
        said = "Invalid schema for response_format: 'minLength' is not permitted"
        return replies.error(400, said) if refused else replies.ok('{"good": true}')

    batch.chat.default = answer
    short = {"type": "object", "properties": {"good": {"type": "boolean"}, "why": {"type": "string", "minLength": 1}}}
    batch.run(response_schema=short, result_format="json", max_concurrency=1)
    assert len(batch.chat.requests) == 4
    batch.run(response_schema=Verdict, result_format="json", on_changed="restart")
    assert batch.chat.requests[-1].json["response_format"]["type"] == "json_schema"


def test_another_schema_is_another_request(batch):
    batch.texts(1)
    batch.chat.default = replies.ok('{"good": true}')
    batch.run(response_schema=Verdict, result_format="json")
    assert "a different request" in batch.error(response_schema={"type": "object"}, result_format="json").message


def test_tool_calls_are_kept_as_data(batch):
    batch.texts(1)
    call = {"id": "c", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    batch.chat.script(replies.ok(None, finish_reason="tool_calls", tool_calls=[call]))
    tools = [{"type": "function", "function": {"name": "time"}}]
    batch.run(request={"tools": tools}, result_format="tool_calls", response_key="calls")
    assert json.loads(json.dumps(batch.results[0]["calls"])) == [{"id": "c", "name": "time", "arguments": {}}]


def test_a_response_schema_that_is_not_a_schema_breaks_the_import(batch):
    with pytest.raises(InvalidRequest, match="response_schema"):
        batch.task(response_schema={"type": "objekt"})


SLIP = {"$defs": {"City": {}}, "type": "object", "properties": {"city": {"$ref": "#/definitions/City"}}}


def tool(parameters):
    return {"type": "function", "function": {"name": "weather", "parameters": parameters}}


@pytest.mark.parametrize(
    "arguments",
    [{"response_schema": SLIP}, {"request": {"tools": [tool(SLIP)]}, "result_format": "tool_calls"}],
    ids=["answer", "tool"],
)
def test_a_reference_that_leads_nowhere_breaks_the_import(batch, arguments):
    with pytest.raises(InvalidRequest, match="did you mean '#/"):
        batch.task(**arguments)


def test_a_row_whose_tools_have_a_broken_reference_fails_before_it_is_sent(batch):
    batch.write({"text": "row 0", "tools": [tool(SLIP)]}, {"text": "row 1", "tools": [tool({"type": "object"})]})
    manifest = batch.run(request={"tools": "{{ row.tools }}"}, result_format="tool_calls", max_failures=1)
    assert manifest["succeeded"] == 1
    assert batch.asked == ["row 1"]
    (line,) = batch.errors
    assert line["error"]["class"] == "InvalidRequest"
    assert "did you mean '#/$defs/City'" in line["error"]["message"]


def test_answers_that_are_hard_to_check_are_kept_with_their_rows(batch):
    deep, trapped = '{"children": [' * 400 + "]}" * 400, json.dumps({"name": "a" * 5000 + "!"})
    schema = {
        "type": "object",
        "properties": {
            "children": {"type": "array", "items": {"$ref": "#"}},
            "name": {"type": "string", "pattern": "^(a+)+$"},
        },
    }
    batch.write({"text": deep}, {"text": trapped}, {"text": '{"name": "aa"}'})
    batch.chat.default = lambda request: replies.ok(request.json["messages"][0]["content"])
    manifest = batch.run(response_schema=schema, output_retries=0, max_failures=2)
    assert manifest["failed"] == {"InvalidOutput 200": 2}
    assert manifest["succeeded"] == 1
    assert [line["body"]["choices"][0]["message"]["content"] for line in batch.errors] == [deep, trapped]
    assert all(line["asked"] == 1 for line in batch.errors)


@pytest.mark.parametrize("request_", ["{{ params.name }}", "{{ row.name }}"])
def test_no_value_names_a_file_for_the_request(batch, tmp_path, request_):
    (tmp_path / "secret.json").write_text('{"model": "secret"}', "utf-8")
    batch.write({"text": "row 0", "name": str(tmp_path / "secret.json")})
    task = batch.task(request=request_, max_failures=0)
    import jinja2

    environment = jinja2.sandbox.SandboxedEnvironment()
    task.render_template_fields({"params": {"name": str(tmp_path / "secret.json")}}, environment)
    with pytest.raises(ChatCompletionError) as caught:
        batch.execute(task)
    assert batch.chat.requests == []
    said = caught.value.message if "params" in request_ else batch.errors[0]["error"]["message"]
    assert "Write the path in request out in the DAG" in said


def test_a_path_that_the_dag_spells_out_is_read_and_rendered(batch, tmp_path):
    (tmp_path / "request.json").write_text('{"temperature": "{{ row.t }}"}', "utf-8")
    batch.write({"text": "row 0", "t": 0.5})
    batch.run(request=str(tmp_path / "request.json"))
    assert batch.chat.requests[0].json["temperature"] == 0.5


def test_streamed_rows_learn_that_the_server_refuses_stream_options(batch):
    batch.texts(3)

    def answer(request):
        if "stream_options" in request.json:
            return replies.error(422, "Extra inputs are not permitted")
        return replies.stream('{"good": true}')

    batch.chat.default = answer
    manifest = batch.run(request={"stream": True}, response_schema=Verdict, result_format="json", max_concurrency=1)
    assert manifest["succeeded"] == 3
    assert ["stream_options" in request.json for request in batch.chat.requests] == [True, False, False, False]
    assert [request.json["response_format"]["type"] for request in batch.chat.requests] == ["json_schema"] * 4
