"""The events that OpenLineage's provider really emits, read from the file that it writes them into."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from airflow_chat_provider.decorators import chat_completion
from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)
from airflow_chat_provider.testing import replies
from tests.support import faults
from tests.support.running import Airflow

PROMPT, ANSWER, KEY = "canary prompt", "canary answer", "sk-canary-0123456789"
SCHEMA = Path("docs/openlineage/1-0-0/AirflowChatCompletionRunFacet.json")
# What OpenLineage's own schema asks of every facet.
BASE = {
    "$defs": {
        "RunFacet": {
            "type": "object",
            "properties": {key: {"type": "string", "format": "uri"} for key in ("_producer", "_schemaURL")},
            "required": ["_producer", "_schemaURL"],
        }
    }
}


@pytest.fixture
def facets(events, project):
    """The facet in each event of a task, by the kind of the event; each is checked against its schema."""
    schema = json.loads((project / SCHEMA).read_text("utf-8"))
    url = schema["$id"] + schema["properties"]["airflowChat_completion"]["$ref"]
    found = {schema["$id"]: schema, "https://openlineage.io/spec/2-0-2/OpenLineage.json": BASE}
    registry: Any = Registry().with_resources((name, DRAFT202012.create_resource(one)) for name, one in found.items())
    validator = Draft202012Validator({"$ref": url}, registry=registry, format_checker=FormatChecker())

    def facet_of(event: dict[str, Any]) -> dict[str, Any]:
        facet = event["run"]["facets"].get("airflowChat_completion")
        if facet is None:
            return {}
        assert facet["_schemaURL"] == url
        validator.validate(facet)
        return {key: value for key, value in facet.items() if not key.startswith("_")}

    return lambda task_id="ask": {event["eventType"]: facet_of(event) for event in events(task_id)}


def datasets(event: dict[str, Any], side: str) -> dict[tuple[str, str], Any]:
    """The rows of each file in an event, by its namespace and name; None for what is no file of a batch."""
    facet = {"inputs": ("inputFacets", "inputStatistics"), "outputs": ("outputFacets", "outputStatistics")}[side]
    return {
        (one["namespace"], one["name"]): one.get(facet[0], {}).get(facet[1], {}).get("rowCount") for one in event[side]
    }


def test_the_end_of_a_task_tells_its_model_endpoint_schema_and_usage(airflow, chat, facets):
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", model="m", request_schema="2023-12")
    run = airflow.run()
    found = facets()
    assert found["START"] == {"model": "m", "requestSchema": "2023-12"}
    usage = {key: value for key, value in run.xcoms()["usage"].items() if value is not None and key != "rejected"}
    assert found["COMPLETE"] == {
        "model": "m",
        "endpoint": chat.url,
        "requestSchema": "2023-12",
        "usage": usage,
    }
    assert usage["total_tokens"] == 11


def test_a_deferred_task_is_complete_once_when_its_answer_is_there(run_dag, chat, events):
    airflow = Airflow(run_dag, deferrable=True)
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi")
    airflow.run()
    kinds = [event["eventType"] for event in events()]
    assert kinds == ["START", "START", "COMPLETE"]
    assert len({event["run"]["runId"] for event in events()}) == 1


def test_a_decorated_function_and_a_branch_tell_the_same(airflow, chat, facets):
    @chat_completion(task_id="ask")
    def ask() -> str:
        return "Hi"

    chat.script(replies.ok(), replies.ok_json({"branch": "one"}))
    with airflow.dag():
        branch = ChatCompletionBranchOperator(task_id="pick", prompt="Which?")
        ask() >> branch >> [ChatCompletionOperator(task_id=name, prompt="Hi") for name in ("one", "two")]
    airflow.run()
    for task_id in ("ask", "pick"):
        assert facets(task_id)["COMPLETE"]["usage"]["requests"] == 1


def test_a_task_that_fails_tells_what_it_took(airflow, chat, facets):
    chat.default = replies.ok("no JSON")
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", result_format="json")
    assert airflow.run().state == "failed"
    assert facets()["FAIL"]["usage"]["total_tokens"] == 11


def test_a_task_whose_time_is_up_tells_of_the_attempt_that_was_cut_off(airflow, chat, facets):
    chat.default = faults.hang()
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", execution_timeout=timedelta(seconds=2))
    assert airflow.run().state == "failed"
    usage = facets()["FAIL"]["usage"]
    assert (usage["requests"], usage["attempts"]) == (0, 1)


def test_a_task_that_fails_before_it_sends_anything_tells_what_it_meant_to_ask(airflow, facets):
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", model="m", chat_conn_id="missing")
    assert airflow.run().state == "failed"
    assert facets()["FAIL"] == {"model": "m"}


def test_a_schema_of_the_users_is_told_as_custom(airflow, chat, facets):
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", request_schema={"type": "object"})
    airflow.run()
    assert facets()["COMPLETE"]["requestSchema"] == "custom"


def test_no_event_has_a_prompt_an_answer_or_a_key(airflow, server, connect, events, tmp_path):
    connect(**{**server.connection, "password": KEY})
    server.default = replies.ok(f'{{"{ANSWER}": 1}}')
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": PROMPT}) + "\n", "utf-8")
    arguments: Any = {"system_prompt": PROMPT, "response_schema": schema, "result_format": "json"}
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt=PROMPT, **arguments)
        ChatCompletionOperator(task_id="good", prompt=PROMPT, outlets=[Asset("lineage_canary", uri="file:///canary")])
        ChatCompletionBatchOperator(
            task_id="bulk",
            input=str(tmp_path / "rows.jsonl"),
            output=str(tmp_path / "out"),
            prompt="{{ row.text }}",
            **arguments,
        )
    airflow.run()
    written = json.dumps([events(task_id) for task_id in ("ask", "good", "bulk")])
    assert {event["eventType"] for event in events()} == {"START", "FAIL"}
    assert len(events("bulk")) == 2
    for secret in (PROMPT, ANSWER, KEY):
        assert secret not in written


@pytest.fixture
def bulk(run_dag, chat, tmp_path):
    """Runs a batch of three rows in a folder of its own."""

    def run(**arguments: Any) -> Any:
        (tmp_path / "rows.jsonl").write_text("".join(f'{{"text": "{row}"}}\n' for row in "abc"), "utf-8")
        given = {"input": str(tmp_path / "rows.jsonl"), "output": str(tmp_path / "out"), **arguments}
        airflow = Airflow(run_dag)
        with airflow.dag():
            ChatCompletionBatchOperator(task_id="bulk", prompt="{{ row.text }}", max_concurrency=1, **given)
        return airflow.run()

    return run


def test_a_batch_tells_its_counts_and_its_files_with_their_rows(bulk, chat, facets, events, tmp_path):
    chat.script(replies.ok(), replies.ok(), replies.error(400, "no"))
    bulk(max_failures=None, max_attempts=1)
    found = facets("bulk")["COMPLETE"]
    assert found["rows"] == {
        "total": 3,
        "succeeded": 2,
        "failed": {"StatusError 400": 1},
        "missing": 0,
        "incomplete": 0,
    }
    assert (found["usage"]["requests"], found["usage"]["total_tokens"]) == (2, 22)
    end = events("bulk")[-1]
    assert datasets(end, "inputs") == {("file", f"{tmp_path}/rows.jsonl"): 3}
    out = f"{tmp_path}/out"
    assert datasets(end, "outputs") == {("file", f"{out}/results.jsonl"): 2, ("file", f"{out}/errors.jsonl"): 1}


def test_a_batch_that_fails_tells_the_same(bulk, chat, facets, events, tmp_path):
    chat.script(replies.ok(), replies.error(401, "no such key"))
    assert bulk().state == "failed"
    assert facets("bulk")["FAIL"]["rows"]["succeeded"] == 1
    assert ("file", f"{tmp_path}/out/results.jsonl") in datasets(events("bulk")[-1], "outputs")


def test_inlets_and_outlets_are_told_beside_the_files(bulk, chat, events, tmp_path):
    asset = {name: Asset(f"lineage_{name}", uri=f"file:///lineage/{name}") for name in ("in", "out")}
    bulk(inlets=[asset["in"]], outlets=[asset["out"]])
    end = events("bulk")[-1]
    assert datasets(end, "inputs") == {("file", f"{tmp_path}/rows.jsonl"): 3, ("file", "/lineage/in"): None}
    assert datasets(end, "outputs") == {
        ("file", f"{tmp_path}/out/results.jsonl"): 3,
        ("file", "/lineage/out"): None,
    }


def test_attachments_are_inputs(airflow, chat, events, tmp_path):
    (tmp_path / "notes.txt").write_text("Notes", "utf-8")
    asset = Asset("lineage_read", uri="file:///lineage/read")
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi", attachments=[str(tmp_path / "notes.txt")], outlets=[asset])
    airflow.run()
    end = events()[-1]
    assert datasets(end, "inputs") == {("file", f"{tmp_path}/notes.txt"): None}
    assert datasets(end, "outputs") == {("file", "/lineage/read"): None}


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("file:///a/b.csv", "file", "/a/b.csv"),
        ("s3://conn@bucket/a/b.csv", "s3://bucket", "a/b.csv"),
        ("gs://bucket/a", "gs://bucket", "a"),
        ("https://host/a.csv", "https", "host/a.csv"),
    ],
)
def test_a_file_has_the_name_that_openlineage_gives_it(events, uri, namespace, name):
    from airflow_chat_provider.task.lineage import Facts, File
    from airflow_chat_provider.task.open_lineage import operator_lineage

    (found,) = operator_lineage(Facts({}, inputs=(File(uri),))).inputs
    assert (found.namespace, found.name) == (namespace, name)


def test_an_error_in_there_fails_no_task_and_the_event_is_sent_all_the_same(airflow, chat, events, monkeypatch):
    monkeypatch.setattr(ChatCompletionOperator, "get_openlineage_facets_on_complete", lambda *_: 1 / 0)
    with airflow.dag():
        ChatCompletionOperator(task_id="ask", prompt="Hi")
    assert airflow.run().state == "success"
    assert events()[-1]["eventType"] == "COMPLETE"


def test_nothing_of_openlineage_is_imported_where_a_dag_is_parsed():
    code = (
        "import sys; from airflow_chat_provider.operators import ChatCompletionOperator; "
        "ChatCompletionOperator(task_id='a', prompt='Hi', outlets=[]); "
        "assert not {'openlineage', 'airflow_chat_provider.task.open_lineage'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
