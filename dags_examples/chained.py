"""Three calls that build on each other: extract, classify to JSON, summarise; then a TaskFlow task reads the result.

``configuration`` hands the connection, model and schema on; ``messages`` continues the conversation.
"""

from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionOperator

REVIEW = "The headphones sound great, but the left ear cup broke after two weeks and nobody answers my mails."
VERDICT = {
    "type": "object",
    "properties": {
        "sentiment": {"type": "string", "enum": ["positive", "negative", "mixed"]},
        "wants_reply": {"type": "boolean"},
    },
    "required": ["sentiment", "wants_reply"],
    "additionalProperties": False,
}

with DAG(dag_id="example_chat_chained", schedule=None, params={"review": REVIEW}, doc_md=__doc__):
    extract = ChatCompletionOperator(
        task_id="extract",
        system_prompt="You help a shop to read its customers' reviews.",
        prompt="List the problems that this review names, one a line:\n\n{{ params.review }}",
        request={"temperature": 0, "seed": 1, "max_tokens": 80},
        result_format="text",
    )
    classify = ChatCompletionOperator(
        task_id="classify",
        configuration=extract.output["configuration"],
        messages=extract.output["messages"],
        prompt="Classify the review. Answer in JSON.",
        request={"temperature": 0, "seed": 1, "max_tokens": 60},
        response_schema=VERDICT,
        result_format="json",
    )
    summarise = ChatCompletionOperator(
        task_id="summarise",
        configuration=classify.output["configuration"],
        messages=classify.output["messages"],
        prompt="Summarise the review in one short sentence.",
        request={"temperature": 0, "seed": 1, "max_tokens": 60},
        result_format="text",
    )

    @task
    def report(body: dict[str, Any], status: int, verdict: dict[str, Any]) -> str:
        text = body["choices"][0]["message"]["content"]
        return f"HTTP {status}, {verdict['sentiment']}: {text}"

    report(summarise.output["body"], summarise.output["status"], classify.output)
