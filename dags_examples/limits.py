"""Limits of tokens: for a task with all that it asks again, and for a batch, which stops there and can go on."""

from pathlib import Path
from tempfile import gettempdir

from airflow.sdk import DAG, Param

from airflow_chat_provider.operators import ChatCompletionBatchOperator, ChatCompletionOperator

OUTPUT = Path(gettempdir(), "example_chat_limits")
CITIES = ["Rome", "Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Accra", "Dakar"]

with DAG(
    dag_id="example_chat_limits",
    schedule=None,
    doc_md=__doc__,
    params={
        "task_tokens": Param(2_000, type="integer", minimum=0),
        "batch_tokens": Param(10_000, type="integer", minimum=0),
        "output": str(OUTPUT),
    },
):
    # Answers that do not fit the schema are asked for again, as long as the limit allows it. The answer's own limit is
    # what makes it hold: without it, nobody knows how long an answer gets.
    pick = ChatCompletionOperator(
        task_id="pick",
        prompt=f"Pick the city with the best food: {', '.join(CITIES)}.",
        request={"temperature": 0, "seed": 1, "max_tokens": 60},
        response_schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        result_format="json",
        output_retries=3,
        max_total_tokens="{{ params.task_tokens }}",
    )

    # Over its limit, the batch keeps what came. Cleared in a DAG with a higher limit, it goes on where it stopped.
    # With prices in the connection, max_cost="0.50" limits what it costs.
    describe = ChatCompletionBatchOperator(
        task_id="describe",
        input=[{"custom_id": city.lower(), "city": city} for city in CITIES],
        output="{{ params.output }}/{{ run_id }}/cities",
        prompt="Say in one sentence what {{ row.city }} tastes like.",
        request={"temperature": 0, "seed": 1, "max_tokens": 60},
        result_format="text",
        max_concurrency=2,
        max_total_tokens="{{ params.batch_tokens }}",
    )

    pick >> describe
