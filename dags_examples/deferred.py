"""Calls that take no worker slot while they wait: the triggerer sends them, and is never allowed to send one twice."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_chat_provider.operators import ChatCompletionOperator

with DAG(
    dag_id="example_chat_deferred",
    schedule=None,
    doc_md=__doc__,
    params={"topic": "data pipelines"},
    default_args={"deferrable": True, "retries": 2, "retry_delay": timedelta(minutes=1)},
):
    # A triggerer that ends in the middle of it may have caused a bill: somebody has a look, nothing is sent again.
    draft = ChatCompletionOperator(
        task_id="draft",
        prompt="Write one sentence about {{ params.topic }}.",
        request={"temperature": 0, "seed": 1, "max_tokens": 60},
        execution_timeout=timedelta(minutes=10),
    )

    # Cheap enough to be asked for twice. A stream counts as alive while chunks come, however long the whole takes.
    ChatCompletionOperator(
        task_id="shorten",
        messages=draft.output["messages"],
        configuration=draft.output["configuration"],
        prompt="Say it in five words.",
        request={"temperature": 0, "seed": 1, "max_tokens": 30, "stream": True},
        result_format="text",
        on_uncertain="resend",
    )
