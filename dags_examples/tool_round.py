"""A tool round across tasks: ask with tools, run the tool in a task, and let the model answer with its result.

For a model that calls tools; the small one that comes with this package does not.
"""

from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionOperator
from airflow_chat_provider.tools import tool_message

STOCK = {"kettle": 12, "desk lamp": 0, "backpack": 3}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "stock_of",
            "description": "How many of a product are in stock",
            "parameters": {
                "type": "object",
                "properties": {"product": {"type": "string", "enum": list(STOCK)}},
                "required": ["product"],
                "additionalProperties": False,
            },
        },
    }
]

with DAG(
    dag_id="example_chat_tool_round", schedule=None, params={"question": "Is the desk lamp in stock?"}, doc_md=__doc__
):
    ask = ChatCompletionOperator(
        task_id="ask",
        prompt="{{ params.question }}",
        request={"tools": TOOLS, "temperature": 0, "seed": 1, "max_tokens": 80},
        result_format="tool_calls",
    )

    @task
    def run_tools(calls: list[dict[str, Any]], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The conversation with the result of each call."""
        return messages + [tool_message(call, {"in_stock": STOCK[call["arguments"]["product"]]}) for call in calls]

    answer = ChatCompletionOperator(
        task_id="answer",
        configuration=ask.output["configuration"],
        messages=run_tools(ask.output, ask.output["messages"]),
        request={"tools": TOOLS, "temperature": 0, "seed": 1, "max_tokens": 60},
        result_format="text",
    )
