"""Many questions about one long text, which the server need not read each time: what stays the same comes first.

OpenAI and others keep the beginning of a prompt by themselves, from about a thousand tokens on: `prompt_cache_key`
sends requests that begin alike to the same place. For Claude models behind OpenRouter or LiteLLM, mark the end of what
is to be kept instead: `{"type": "text", "text": TERMS, "cache_control": {"type": "ephemeral"}}` in the system message.
"""

from typing import Any

from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionOperator

TERMS = "You help the customers of a shop. Its terms:\n\n" + "\n".join(
    f"{number}. An article of kind {number} may be sent back within {number + 10} days." for number in range(1, 41)
)
QUESTIONS = [f"For how many days may I send back an article of kind {number}?" for number in (3, 14, 15)]

with DAG(dag_id="example_chat_cached_prompt", schedule=None, doc_md=__doc__):
    ask = ChatCompletionOperator.partial(
        task_id="ask",
        system_prompt=TERMS,
        request={"temperature": 0, "max_tokens": 30, "prompt_cache_key": "shop-terms"},
        result_format="text",
        max_active_tis_per_dag=1,  # the first answer comes before the others are asked for: the text is kept by then
    ).expand(prompt=QUESTIONS)

    @task
    def saved(usages: list[dict[str, Any]]) -> dict[str, Any]:
        """How much of the input came from the server's cache, and what all of it cost."""
        usages = list(usages)
        read = sum(usage["input_tokens"] or 0 for usage in usages)
        cached = sum(usage["cache_read_tokens"] or 0 for usage in usages)
        costs = [usage["cost"] for usage in usages if usage["cost"] is not None]
        print(f"{cached} of {read} tokens came from the cache")  # noqa: T201
        return {"input_tokens": read, "cache_read_tokens": cached, "cost": sum(costs) if costs else None}

    saved(ask.output["usage"])
