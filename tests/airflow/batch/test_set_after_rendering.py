"""What is set on a batch's task after rendering counts: it is data, the same for each row."""

import pytest
from airflow.sdk import task

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from tests.support.asking import setting, system, user

pytestmark = pytest.mark.templates

EVIL = "{{ var.value.SECRET }} {% if %}"


def messages(chat):
    """What the server got, sorted by the row."""
    return sorted((request.json["messages"] for request in chat.requests), key=str)


def rendered(task, **context):
    """The task, rendered as Airflow does."""
    task.render_template_fields({"params": {}, **context}, task.get_template_env())
    return task


def test_pre_execute_may_set_a_field(airflow, chat, tmp_path):
    with airflow.dag(default_args={}):
        ChatCompletionBatchOperator(
            task_id="ask",
            input=[{"text": "a"}, {"text": "b"}],
            output=str(tmp_path / "out"),
            system_prompt="{{ 1 }}",
            prompt="{{ row.text }}",
            pre_execute=setting(system_prompt=EVIL, model="other", request={"temperature": 0}),
        )
    assert airflow.run().state == "success"
    assert messages(chat) == [[system(EVIL), user("a")], [system(EVIL), user("b")]]
    assert {(request.json["model"], request.json["temperature"]) for request in chat.requests} == {("other", 0)}


def test_execute_of_a_subclass_may_set_a_field(batch):
    class Mine(ChatCompletionBatchOperator):
        def execute(self, context):
            assert isinstance(self.messages, list)
            self.messages.append(user(EVIL))
            self.prompt = None
            return super().execute(context)

    batch.texts(2)
    given = {**batch.arguments, "messages": [user("{{ row.text }}"), user("{{ 1 }}")], "prompt": "{{ 2 }}"}
    operator = rendered(
        Mine(task_id="ask", dag=batch.task().dag, input=str(batch.input), output=str(batch.output), **given)
    )
    batch.execute(operator)
    assert messages(batch.chat) == [[user(f"row {index}"), user("1"), user(EVIL)] for index in range(2)]


def test_a_template_that_is_moved_stays_a_template(batch):
    batch.texts(1)
    operator = rendered(batch.task())
    operator.messages, operator.prompt = [system("Short."), user(operator.prompt)], None
    batch.execute(operator)
    assert messages(batch.chat) == [[system("Short."), user("row 0")]]


def test_a_template_that_is_set_is_data_and_warned_of(batch, caplog):
    batch.texts(1)
    operator = rendered(batch.task())
    operator.prompt += " {{ row.text }}"
    batch.execute(operator)
    assert messages(batch.chat) == [[user("{{ row.text }} {{ row.text }}")]]
    assert "If this is a template, write it in the DAG: prompt was set after rendering" in caplog.text


def test_a_request_in_json_that_is_set_is_data(batch):
    batch.texts(1)
    operator = rendered(batch.task(request='{"seed": {{ row.text | length }} }'))
    operator.request = '{"seed": 7, "metadata": {"a": "{{ row.text }}"}}'
    batch.execute(operator)
    assert batch.chat.requests[0].json["seed"] == 7
    assert batch.chat.requests[0].json["metadata"] == {"a": "{{ row.text }}"}


def test_a_field_whose_template_failed_may_be_set(batch):
    batch.texts(1)
    operator = rendered(batch.task(prompt="{{ params.nope }}", shard="{{ params.nope }}"))
    operator.prompt, operator.shard = "instead", None
    batch.execute(operator)
    assert batch.asked == ["instead"]


def test_a_failed_template_is_an_error_if_another_field_is_set(batch):
    batch.texts(1)
    operator = rendered(batch.task(prompt="{{ params.nope }}"))
    operator.model = "other"
    with pytest.raises(InvalidRequest) as caught:
        batch.execute(operator)
    assert caught.value.path == "prompt"
    assert batch.asked == []


def test_a_changed_prompt_is_another_batch(batch):
    batch.texts(1)
    batch.execute(rendered(batch.task()))
    operator = rendered(batch.task())
    operator.prompt = "instead"
    with pytest.raises(InvalidRequest) as caught:
        batch.execute(operator)
    assert caught.value.keyword == "fingerprint"


def test_an_upstream_value_is_data_when_it_is_set_too(airflow, chat, tmp_path):
    with airflow.dag(default_args={}):

        @task
        def evil():
            return EVIL

        def take(context):
            context["task"].prompt = context["ti"].xcom_pull("evil")

        evil() >> ChatCompletionBatchOperator(
            task_id="ask",
            input=[{"text": "a"}],
            output=str(tmp_path / "out"),
            prompt="{{ row.text }}",
            pre_execute=take,
        )
    assert airflow.run().state == "success"
    assert messages(chat) == [[user(EVIL)]]
