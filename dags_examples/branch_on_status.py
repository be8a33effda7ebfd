"""A refusal as data: ``check_status=False`` lets the task succeed, and a branch reads ``status``.

Run it with ``{"text": "word word word ..."}``, longer than the model's context, to see the other branch.
"""

from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionOperator

with DAG(
    dag_id="example_chat_branch_on_status",
    schedule=None,
    params={"text": "Airflow runs tasks in the order that their dependencies ask for."},
    doc_md=__doc__,
):
    ask = ChatCompletionOperator(
        task_id="ask",
        prompt="Shorten this: {{ params.text }}",
        request={"temperature": 0, "seed": 1, "max_tokens": 40},
        check_status=False,
    )

    @task.branch
    def choose(status: int) -> str:
        return "use_reply" if status == 200 else "use_the_text_itself"

    @task
    def use_reply(body: dict[str, Any]) -> str:
        return str(body["choices"][0]["message"]["content"])

    @task
    def use_the_text_itself(body: dict[str, Any], params: dict[str, Any] | None = None) -> str:
        print(f"refused: {body['error']['message']}")  # noqa: T201 - a task's log
        return str((params or {})["text"])[:40]

    choose(ask.output["status"]) >> [use_reply(ask.output["body"]), use_the_text_itself(ask.output["body"])]
