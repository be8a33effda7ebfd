"""The path of a schema is found as the file of a request is: beside the DAG, or in its template_searchpath."""

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.sdk import DAG

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
from airflow_chat_provider.templates import dag_templates
from airflow_chat_provider.testing import replies
from tests.support.asking import ask, sent
from tests.support.running import load_dag

pytestmark = pytest.mark.templates

ARGUMENTS = ["request_schema", "response_schema"]
DAG_FILE = """
from airflow.sdk import DAG
from airflow_chat_provider.operators import ChatCompletionOperator

with DAG({dag_id!r}, schedule=None, template_searchpath={searchpath!r}) as dag:
    ChatCompletionOperator(task_id="ask", prompt="x", deferrable={deferrable}, {arguments})
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The process stands in a folder that has nothing to do with the DAG."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


@pytest.fixture
def schema(elsewhere):
    """A folder with a request schema that wants a tier, and an answer's that wants a number."""
    folder = elsewhere / "schemas"
    folder.mkdir()
    (folder / "request.json").write_text(json.dumps({"required": ["tier"]}), "utf-8")
    answer = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    (folder / "answer.json").write_text(json.dumps({"title": "Number", **answer}), "utf-8")
    return folder


class TestFound:
    @pytest.mark.parametrize("beside", [True, False])
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_beside_the_dag_or_in_its_search_path(self, run_dag, chat, schema, dags_folder, beside, deferrable):
        dag_id = f"schemas_{beside}_{deferrable}"
        folder = dags_folder / dag_id
        folder.mkdir()
        for name in ("request.json", "answer.json"):
            if beside:
                (folder / name).write_text((schema / name).read_text())
        arguments = 'request={"tier": 1}, request_schema="request.json", response_schema="answer.json"'
        text = DAG_FILE.format(dag_id=dag_id, searchpath=[str(schema)], arguments=arguments, deferrable=deferrable)
        (folder / "dag.py").write_text(text)
        chat.script(replies.ok("no"), replies.ok_json({"n": 1}))
        assert run_dag(load_dag(folder / "dag.py", dag_id)).state == "success"
        assert sent(chat, 0)["response_format"]["json_schema"]["name"] == "Number"
        assert len(chat.requests) == 2

    def test_as_an_absolute_path(self, airflow, chat, schema):
        chat.script(replies.ok_json({"n": 1}))
        with airflow.dag():
            ask(
                prompt="x",
                request={"tier": 1},
                request_schema=str(schema / "request.json"),
                response_schema=schema / "answer.json",
            )
        assert airflow.run().state == "success"

    def test_for_each_of_a_mapped_task(self, airflow, chat, schema):
        chat.default = replies.ok_json({"n": 1})
        with airflow.dag(template_searchpath=[str(schema)]):
            ChatCompletionOperator.partial(
                task_id="ask", request={"tier": 1}, request_schema="request.json", response_schema="answer.json"
            ).expand(prompt=["a", "b"])
        assert airflow.run().state == "success"
        assert sent(chat)["response_format"]["json_schema"]["name"] == "Number"

    def test_for_the_rows_of_a_batch(self, airflow, chat, schema):
        chat.default = replies.ok_json({"n": 1})
        with airflow.dag(template_searchpath=[str(schema)]):
            ChatCompletionBatchOperator(
                task_id="bulk",
                input=[{"text": "a"}],
                output=str(schema / "out"),
                prompt="{{ row.text }}",
                request={"tier": 1},
                request_schema="request.json",
                response_schema="answer.json",
            )
        run = airflow.run()
        assert run.state == "success"
        assert run.xcoms("bulk")["return_value"]["succeeded"] == 1
        assert sent(chat)["response_format"]["json_schema"]["name"] == "Number"

    def test_a_schema_that_was_found_is_held_to(self, airflow, schema):
        with airflow.dag(template_searchpath=[str(schema)]):
            ask(
                prompt="x", request={"stop": "{{ params }}"}, request_schema="{{ none }}", response_schema="answer.json"
            )
            with pytest.raises(InvalidRequest, match="'tier' is missing"):
                ChatCompletionOperator(task_id="wrong", prompt="x", request_schema="request.json")


@pytest.mark.parametrize("argument", ARGUMENTS)
class TestNotFound:
    def test_the_places_are_listed(self, airflow, elsewhere, argument):
        with airflow.dag(template_searchpath=[str(elsewhere)]), pytest.raises(InvalidRequest) as caught:
            ask(prompt="x", **{argument: "nowhere.json"})
        assert caught.value.path == argument
        assert f"{argument}: the file 'nowhere.json' is in none of" in caught.value.message
        assert repr(str(elsewhere)) in caught.value.message

    def test_a_schema_beside_the_process_is_not_found(self, airflow, elsewhere, argument):
        (elsewhere / "cwd" / "here.json").write_text("{}")
        with airflow.dag(), pytest.raises(InvalidRequest, match="is in none of"):
            ask(prompt="x", **{argument: "here.json"})

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b'{"a": "\xe9"}', "is not UTF-8"),
            (b'{"a":\n 1', "at line 2, column 3"),
            (b"[]", "not a JSON object"),
            (b'{"type": "objct"}', "$.type"),
        ],
    )
    def test_a_file_that_is_no_schema_is_named(self, airflow, elsewhere, argument, content, says):
        (elsewhere / "wrong.json").write_bytes(content)
        with airflow.dag(template_searchpath=[str(elsewhere)]), pytest.raises(InvalidRequest) as caught:
            ask(prompt="x", **{argument: "wrong.json"})
        assert caught.value.path == argument
        assert "wrong.json" in caught.value.message
        assert says in caught.value.message


def test_a_batch_whose_rows_are_requests_has_its_schema_checked_too(airflow, elsewhere):
    with airflow.dag(), pytest.raises(InvalidRequest, match="is in none of"):
        ChatCompletionBatchOperator(task_id="bulk", input="a.jsonl", output="out", request_schema="nowhere.json")


@pytest.fixture
def reads(monkeypatch):
    """The names of the schema files that were opened, in order."""
    names, opening = [], open

    def noted(file, *arguments, **more):
        if isinstance(file, str | Path) and Path(file).suffix == ".json":
            names.append(Path(file).name)
        return opening(file, *arguments, **more)

    monkeypatch.setattr("builtins.open", noted)
    monkeypatch.setattr("io.open", noted)
    return names


class TestReads:
    """A schema's file is read once while a DAG is parsed, and once in a task, however often the schema is needed."""

    ARGUMENTS: ClassVar[dict[str, Any]] = {
        "request": {"tier": 1},
        "prompt": "x",
        "request_schema": "request.json",
        "response_schema": "answer.json",
        "multiple_outputs": True,
        "result_format": "json",
    }

    def test_one_while_the_dag_is_parsed(self, schema, reads):
        with DAG("parsed", schedule=None, template_searchpath=[str(schema)]):
            ask(**self.ARGUMENTS)
            ChatCompletionOperator(task_id="other", **self.ARGUMENTS)
        assert sorted(reads) == ["answer.json", "request.json"]

    def test_one_in_a_task_of_another_process(self, chat, schema, reads):
        chat.script(replies.ok_json({"n": 1}))
        with DAG("parsed_elsewhere", schedule=None, template_searchpath=[str(schema)]):
            task = ask(**{**self.ARGUMENTS, "multiple_outputs": False}, do_xcom_push=False)
        dag_templates._LAST.clear()
        reads.clear()
        task.render_template_fields({"params": {}}, task.get_template_env())
        assert task.execute({"ti": None}) == {"n": 1}
        assert sorted(reads) == ["answer.json", "request.json"]

    def test_again_if_the_file_has_changed(self, schema):
        with DAG("changed", schedule=None, template_searchpath=[str(schema)]):
            ChatCompletionOperator(task_id="before", **self.ARGUMENTS)
            (schema / "request.json").write_text(json.dumps({"required": ["level"]}), "utf-8")
            os.utime(schema / "request.json", (1, 1))
            with pytest.raises(InvalidRequest, match="'level' is missing"):
                ChatCompletionOperator(task_id="after", **self.ARGUMENTS)
