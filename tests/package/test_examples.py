"""Every example DAG, run by the real Airflow against the embedded real model."""

import json
from pathlib import Path

import pytest
from airflow import sdk

from airflow_chat_provider.testing import replies
from tests.support.batching import lines
from tests.support.running import Run, load_dag, load_dags

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model_server():
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    from airflow_chat_provider.local_server import LocalServer

    with LocalServer(port=0) as running:
        yield running


@pytest.fixture
def run(project, run_dag, model_server, monkeypatch):
    """Run an example by its name."""
    monkeypatch.setenv("AIRFLOW_CONN_CHAT_DEFAULT", json.dumps(model_server.connection))

    def go(name, conf=None, chat=None):
        if chat is not None:  # what the embedded model cannot be made to do
            monkeypatch.setenv(
                "AIRFLOW_CONN_CHAT_DEFAULT",
                json.dumps({"conn_type": "chat", "host": chat.url, "extra": {"model": "m"}}),
            )
        return Run(run_dag(load_dag(project / "dags_examples" / f"{name}.py", f"example_chat_{name}"), run_conf=conf))

    return go


def test_every_example_is_run_here(project):
    tested = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_examples*.py"))
    for file in (project / "dags_examples").glob("*.py"):
        assert f'run("{file.stem}"' in tested


def test_quickstart_answers_in_text(run):
    finished = run("quickstart")
    assert finished.state == "success"
    assert isinstance(finished.xcoms()["return_value"], str)
    assert finished.rendered()["request"]["temperature"] == 0.2


def test_chained_extracts_classifies_and_summarises_in_one_conversation(run):
    finished = run("chained")
    assert finished.state == "success"
    verdict = finished.xcoms("classify")["return_value"]
    assert set(verdict) == {"sentiment", "wants_reply"}
    roles = [message["role"] for message in finished.xcoms("summarise")["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    assert finished.xcoms("report")["return_value"].startswith(f"HTTP 200, {verdict['sentiment']}: ")
    assert finished.xcoms("summarise")["configuration"] == finished.xcoms("extract")["configuration"]


def test_mapped_asks_once_for_each_text(run):
    finished = run("mapped")
    assert finished.state == "success"
    assert len(finished.xcoms("collect")["return_value"]) == 3
    assert finished.xcoms("rate", 2)["messages"][1]["content"] == "{{ this is data, and is sent as it stands }}"


def test_deferred_answers_and_goes_on_by_way_of_the_triggerer(run):
    finished = run("deferred")
    assert finished.state == "success"
    roles = [message["role"] for message in finished.xcoms("shorten")["messages"]]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert finished.xcoms("shorten")["return_value"] == finished.xcoms("shorten")["messages"][-1]["content"]
    assert finished.xcoms("shorten")["body"]["usage"]["total_tokens"] > 0


def test_bulk_reviews_classifies_each_row_of_the_table_to_json(run, tmp_path):
    finished = run("bulk_reviews", {"output": str(tmp_path)})
    assert finished.state == "success"
    manifest = finished.xcoms("classify")["return_value"]
    assert (manifest["total"], manifest["succeeded"], manifest["failed"]) == (8, 8, {})
    found = lines(Path(manifest["results"]))
    assert [line["id"] for line in found] == [f"r-{number}" for number in range(101, 109)]
    assert {line["verdict"]["sentiment"] for line in found} <= {"positive", "negative", "mixed"}
    assert found[6]["row"]["review"] == "{{ this is data }} and the sound is thin."
    assert sum(finished.xcoms("count")["return_value"].values()) == 8


def test_bulk_openai_file_answers_each_request_of_the_file_by_its_id(run, tmp_path):
    finished = run("bulk_openai_file", {"output": str(tmp_path)})
    assert finished.state == "success"
    assert set(finished.xcoms("answers")["return_value"]) == {"capital-1", "capital-2", "capital-3"}
    manifest = finished.xcoms("ask")["return_value"]
    assert manifest["usage"]["total_tokens"] > 0
    line = lines(Path(manifest["results"]))[0]
    assert set(line) == {"index", "id", "custom_id", "response", "error", "digest"}
    assert set(line["response"]) == {"status_code", "request_id", "body"}


def test_bulk_sharded_has_one_line_for_each_row_of_all_shards(run, tmp_path):
    finished = run("bulk_sharded", {"output": str(tmp_path)})
    assert finished.state == "success"
    assert finished.xcoms("merge")["return_value"] == 8
    (merged,) = tmp_path.glob("*/sharded/merged.jsonl")
    assert [json.loads(line)["index"] for line in merged.read_text("utf-8").splitlines()] == list(range(8))


def test_tool_round_runs_the_tool_that_the_model_calls_and_answers_with_its_result(run, chat):
    call = {"id": "c", "type": "function", "function": {"name": "stock_of", "arguments": '{"product": "desk lamp"}'}}
    chat.script(replies.ok(None, finish_reason="tool_calls", tool_calls=[call]), replies.ok("It is sold out."))
    finished = run("tool_round", chat=chat)
    assert finished.state == "success"
    assert finished.xcoms("ask")["return_value"] == [
        {"id": "c", "name": "stock_of", "arguments": {"product": "desk lamp"}}
    ]
    told = chat.requests[-1].json["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "tool"]
    assert told[-1] == {"role": "tool", "tool_call_id": "c", "content": '{"in_stock": 0}'}
    assert finished.xcoms("answer")["return_value"] == "It is sold out."


def test_typed_answers_classifies_to_a_class_and_takes_one_branch(run):
    finished = run("typed_answers")
    assert finished.state == "success"
    assert set(finished.xcoms("classify")["return_value"]) == {"sentiment", "wants_reply"}
    states = finished.states()
    assert sorted((states["refund"], states["thank"])) == ["skipped", "success"]
    assert states[finished.xcoms("decide")["return_value"]] == "success"


@pytest.mark.skipif(not hasattr(sdk, "LoopDecision"), reason="Airflow has loops from 3.4 on")
def test_ask_until_content_asks_until_the_judge_is_content(run, chat):
    verdicts = [{"content": False, "advice": "Be brief."}, {"content": True, "advice": ""}]
    for number, verdict in enumerate(verdicts):
        chat.script(replies.ok(f"Sentence {number}."), replies.ok_json(verdict))
    finished = run("ask_until_content", {"topic": "lamps"}, chat=chat)
    assert finished.state == "success"
    assert finished.xcoms("last")["return_value"] == "Sentence 1."
    asked = [request.json["messages"][-1]["content"] for request in chat.requests]
    assert asked[::2] == [
        "Write one sentence about lamps.",
        "Write one sentence about lamps. Follow this advice: Be brief.",
    ]
    assert asked[1].endswith("Sentence 0.")
    assert len({request.headers["idempotency-key"] for request in chat.requests}) == 4


def test_ask_until_content_can_be_imported_on_an_airflow_without_loops_too(project):
    dags = load_dags(project / "dags_examples" / "ask_until_content.py")
    assert list(dags) == (["example_chat_ask_until_content"] if hasattr(sdk, "LoopDecision") else [])


@pytest.mark.parametrize(
    ("conf", "status", "taken"),
    [(None, 200, "use_reply"), ({"text": "word " * 20_000}, 400, "use_the_text_itself")],
    ids=["answered", "refused"],
)
def test_branch_on_status_takes_the_branch_of_the_status(run, conf, status, taken):
    finished = run("branch_on_status", conf)
    states = finished.states()
    assert finished.state == "success"
    assert finished.xcoms()["status"] == status
    assert states.pop(taken) == "success"
    assert states.pop({"use_reply": "use_the_text_itself", "use_the_text_itself": "use_reply"}[taken]) == "skipped"
