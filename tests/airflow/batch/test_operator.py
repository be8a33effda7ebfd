"""The batch operator in DAGs, run by the real Airflow."""

import json
from datetime import timedelta

import pytest
from airflow.sdk import task

from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.testing import replies
from tests.support.batching import lines, prompt_of
from tests.support.running import Airflow


@pytest.fixture
def airflow(run_dag):
    return Airflow(run_dag)


def bulk(folder, **arguments):
    given = {"output": f"{folder}/{{{{ run_id }}}}", "prompt": "{{ row.text }}", "result_format": "text", **arguments}
    given |= {"retry_delay": timedelta(seconds=0)}
    return ChatCompletionBatchOperator(task_id="bulk", **given)


def test_rows_of_an_upstream_task_are_data_and_the_manifest_is_the_return_value(airflow, chat, tmp_path):
    with airflow.dag():

        @task
        def rows():
            return [{"text": "{{ run_id }}"}, {"text": "plain"}]

        bulk(tmp_path, input=rows())
    run = airflow.run()
    assert run.state == "success"
    manifest = run.xcoms("bulk")["return_value"]
    assert (manifest["succeeded"], manifest["total"]) == (2, 2)
    assert sorted(map(prompt_of, chat.requests)) == ["plain", "{{ run_id }}"]
    assert set(run.xcoms("bulk")) == {"return_value", "usage", "progress"}
    assert run.xcoms("bulk")["usage"] == manifest["usage"]


def test_the_rendered_fields_show_the_run_and_leave_what_looks_at_a_row(airflow, chat, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a"}))
    with airflow.dag(params={"t": 0.5, "folder": str(tmp_path)}):
        bulk(
            "{{ params.folder }}",
            input="{{ params.folder }}/rows.jsonl",
            request={"temperature": "{{ params.t }}", "user": "{{ row.text }}"},
            max_concurrency="{{ 2 + 2 }}",
        )
    run = airflow.run()
    assert run.state == "success"
    shown = run.rendered("bulk")
    assert shown["input"] == f"{tmp_path}/rows.jsonl"
    assert shown["request"] == {"temperature": 0.5, "user": "{{ row.text }}"}
    assert shown["prompt"] == "{{ row.text }}"
    assert shown["max_concurrency"] == 4
    assert chat.requests[0].json["temperature"] == 0.5


def test_the_operator_maps_over_files_and_over_shards(airflow, chat, tmp_path):
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        file.write_text("".join(json.dumps({"text": f"{file.stem} {index}"}) + "\n" for index in range(4)))
    with airflow.dag():
        ChatCompletionBatchOperator.partial(
            task_id="bulk", output=f"{tmp_path}/{{{{ ti.map_index }}}}", prompt="{{ row.text }}", result_format="text"
        ).expand(input=[str(file) for file in files], shard=["1/2", "2/2"])
    run = airflow.run()
    assert run.state == "success"
    assert sorted(map(prompt_of, chat.requests)) == [f"{name} {index}" for name in "ab" for index in range(4)]
    manifests = [run.xcoms("bulk", index)["return_value"] for index in range(4)]
    assert sum(manifest["total"] for manifest in manifests) == 8


def test_a_mapped_task_takes_its_templates_from_partial_and_its_data_from_upstream(airflow, chat, tmp_path):
    with airflow.dag():

        @task
        def batches():
            return [[{"text": "{{ a }}"}], [{"text": "b"}]]

        ChatCompletionBatchOperator.partial(
            task_id="bulk", output=f"{tmp_path}/{{{{ ti.map_index }}}}", prompt="Say {{ row.text }}"
        ).expand(input=batches())
    assert airflow.run().state == "success"
    assert sorted(map(prompt_of, chat.requests)) == ["Say b", "Say {{ a }}"]


def test_a_retry_of_the_task_asks_for_what_is_missing_and_failed(airflow, chat, tmp_path):
    chat.script(*[replies.ok()] * 3, replies.error(500, "no"))
    rows = [{"text": str(index)} for index in range(10)]
    with airflow.dag():
        bulk(tmp_path, input=rows, retries=1, max_failures=0, max_concurrency=1, max_attempts=1)
    run = airflow.run()
    assert (run.state, run.tries("bulk")) == ("success", 2)
    assert len(chat.requests) == 11
    (results,) = tmp_path.glob("*/results.jsonl")
    assert [line["index"] for line in lines(results)] == list(range(10))


def test_no_retry_is_used_up_if_too_many_rows_would_fail_again(airflow, chat, tmp_path):
    chat.script(replies.ok(), replies.error(400, "no"))
    with airflow.dag():
        bulk(tmp_path, input=[{"text": "a"}, {"text": "b"}], retries=1, max_failures=0, max_concurrency=1)
    run = airflow.run()
    assert (run.state, run.tries("bulk"), len(chat.requests)) == ("failed", 1, 2)


def test_too_many_failures_leave_the_manifest_in_xcom_and_fail_the_task(airflow, chat, tmp_path):
    chat.script(replies.error(400, "no"))
    with airflow.dag():
        bulk(tmp_path, input=[{"text": "a"}])
    run = airflow.run()
    assert run.state == "failed"
    assert run.xcoms("bulk")["return_value"]["failed"] == {"StatusError 400": 1}


def test_a_wrong_key_burns_no_retry(airflow, chat, tmp_path):
    chat.script(replies.error(401, "who are you?"))
    with airflow.dag():
        bulk(tmp_path, input=[{"text": "a"}], retries=3)
    run = airflow.run()
    assert (run.state, run.tries("bulk"), len(chat.requests)) == ("failed", 1, 1)


def test_an_upstream_task_that_left_nothing_is_named(airflow, chat, tmp_path):
    with airflow.dag():

        @task
        def nothing():
            return None

        bulk(tmp_path, input=nothing(), system_prompt=nothing())
    assert airflow.run().state == "failed"
    assert chat.requests == []


def test_configuration_of_an_upstream_task_names_connection_and_model(airflow, chat, tmp_path):
    with airflow.dag():
        bulk(
            tmp_path,
            input=[{"text": "a"}],
            configuration={"chat_conn_id": "chat_default", "model": "of-upstream", "request_schema": "2023-12"},
        )
    assert airflow.run().state == "success"
    assert chat.requests[0].json["model"] == "of-upstream"


def test_op_output_is_still_the_reference_to_its_xcoms(tmp_path, airflow):
    with airflow.dag():
        assert bulk(tmp_path, input=[{"text": "a"}]).output["results"].key == "results"


def test_no_prompt_answer_or_key_is_logged(airflow, chat, tmp_path, capfd):
    chat.script(replies.ok("canary answer"), replies.error(400, "you said: a canary prompt that is long enough"))
    with airflow.dag():
        bulk(tmp_path, input=[{"text": "a canary prompt that is long enough"}] * 2, max_failures=None)
    airflow.run()
    logged = "".join(capfd.readouterr())
    assert "canary" not in logged
    assert "sk-test-1234567890" not in logged
