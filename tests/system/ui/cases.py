"""The DAG file of the Airflow that these tests look at, beside the examples. Each model's name says what it answers.

Not imported by a test: `conftest.py` copies it into Airflow's folder of DAGs.
"""

from datetime import timedelta
from tempfile import gettempdir

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_chat_provider.operators import (
    ChatCompletionBatchOperator,
    ChatCompletionBranchOperator,
    ChatCompletionOperator,
)

VERDICT = {
    "type": "object",
    "properties": {"sentiment": {"enum": ["good", "bad"]}},
    "required": ["sentiment"],
    "additionalProperties": False,
}
ONCE = {"max_attempts": 1, "retries": 0}


def ask(name, **arguments):
    """A task and a model of this name."""
    return ChatCompletionOperator(task_id=name, **{"model": name, "prompt": f"What is {name}?"} | arguments)


with DAG("ui_answers", schedule=None):
    ask("rich", system_prompt="You write *Markdown*.")
    ask("reasoning", request={"reasoning_effort": "low"})
    ask("asked_again", response_schema=VERDICT, result_format="json")
    ask("cut_off", request={"max_tokens": 8})
    ask("several", request={"n": 2})
    ask("streamed", request={"stream": True})
    ask("second_try", prompt="This is try {{ ti.try_number }}.", max_attempts=1, retries=1, retry_delay=timedelta(0))
    ask("without_messages", push_messages=False)
    ChatCompletionBranchOperator(
        task_id="branch",
        model="branch",
        prompt="The kettle leaks. I want my money back.",
        branches={"refund": "the writer wants money back", "thank": "the writer is happy"},
    ) >> [EmptyOperator(task_id="refund"), EmptyOperator(task_id="thank")]

# For the pictures of the documentation.
with DAG("reviews", schedule=None):
    ask(
        "find_problems",
        model="Qwen/Qwen3-8B",
        system_prompt="You help a shop to read its customers' reviews. Be brief.",
        prompt="Which problems does this review name?\n\n> The kettle leaks, and nobody answers my mails.",
    )

with DAG("ui_failures", schedule=None):
    ask("wrong_key", **ONCE)
    ask("limited", **ONCE)
    ask("unreachable", chat_conn_id="chat_nowhere", **ONCE)
    ask("invalid", request={"temperature": "{{ 1 + 8 }}"}, **ONCE)
    ask("not_a_completion", **ONCE)
    ChatCompletionBatchOperator(
        task_id="batch",
        model="batch",
        input=[{"id": f"row-{number}", "text": text} for number, text in enumerate(["fine", "bad", "broken"] * 4)],
        id_key="id",
        prompt="Rate this: {{ row.text }}",
        result_format="text",
        output=f"{gettempdir()}/airflow_chat_ui/{{{{ run_id }}}}",
        max_attempts=1,
        max_failures=1.0,
        retries=0,
    )

with DAG("ui_untrusted", schedule=None):
    for name in ("markup", "links", "entities", "bidi", "megabyte", "prompt_markup"):
        ask(name, **({"prompt": "{{ params.markup }}"} if name == "prompt_markup" else {}))

# Tests break the XComs of these, each its own.
with DAG("ui_broken", schedule=None):
    ChatCompletionOperator.partial(task_id="ask", model="plain").expand(prompt=[f"Question {n}" for n in range(10)])

with DAG("hidden_chat", schedule=None):
    ask("ask", model="secret")
