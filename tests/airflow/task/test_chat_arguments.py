"""ChatArguments has every argument of an operator, as it is when the task executes."""

import inspect

import pytest
from airflow.sdk import DAG

from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator
from airflow_chat_provider.task.arguments import ATTRIBUTES, REQUEST_FIELDS, ChatArguments

FIELDS = set(ChatArguments._fields)


def test_it_has_a_field_for_every_argument_that_is_not_a_part_of_the_request():
    parameters = inspect.signature(ChatCompletionOperator).parameters.keys() - {"kwargs"}
    of_base_operator = {"task_id", "dag", "multiple_outputs", "do_xcom_push"}
    assert parameters - {*REQUEST_FIELDS} == FIELDS - of_base_operator - {"names_schema"}


@pytest.mark.parametrize("field", sorted(FIELDS - {"dag"}))
def test_every_field_is_read_from_an_attribute_of_the_operator(field):
    task = ChatCompletionOperator(task_id="ask", prompt="Hi")
    marked = object()
    setattr(task, ATTRIBUTES.get(field, field), marked if field != "task_id" else "other")
    assert getattr(ChatArguments.from_task(task), field) == ("other" if field == "task_id" else marked)


def test_an_argument_that_an_operator_lacks_has_its_default():
    task = ChatCompletionBatchOperator(task_id="ask", prompt="Hi", input=[], output="/tmp/out", result_format="text")
    arguments = ChatArguments.from_task(task)
    assert (arguments.result_format, arguments.check_status, arguments.on_uncertain) == ("text", True, "fail")


def test_the_dag_is_known_where_there_is_one():
    assert ChatArguments.from_task(ChatCompletionOperator(task_id="ask", prompt="Hi")).dag is None
    with DAG("known", schedule=None) as dag:
        task = ChatCompletionOperator(task_id="ask", prompt="Hi")
    assert ChatArguments.from_task(task).dag is dag


@pytest.mark.parametrize("schema", [None, "2026-11", "open"])
def test_a_schema_that_the_author_gave_is_told_from_the_default(schema):
    assert not ChatArguments.from_task(ChatCompletionOperator(task_id="ask", prompt="Hi")).names_schema
    task = ChatCompletionOperator(task_id="ask", prompt="Hi", request_schema=schema)
    assert ChatArguments.from_task(task).names_schema
