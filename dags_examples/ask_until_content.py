"""Ask until the judge is content: one call writes, another one judges, and a loop goes on until the verdict is good.

Loops come with Airflow 3.4; before it this file defines no DAG. Each iteration is a call of its own.
"""

from typing import Any

from airflow import sdk
from airflow.sdk import DAG, task, task_group
from pydantic import BaseModel, Field

from airflow_chat_provider.decorators import chat_completion


class Verdict(BaseModel):
    content: bool
    advice: str = Field(max_length=200)


def content(*, loop: Any) -> Any:
    """Airflow's UI shows the reason beside the iteration."""
    return sdk.LoopDecision(stop=loop.result["content"], reason=loop.result["advice"][:100])  # type: ignore[attr-defined]


if hasattr(sdk, "LoopDecision"):
    with DAG(
        dag_id="example_chat_ask_until_content", schedule=None, params={"topic": "data pipelines"}, doc_md=__doc__
    ):

        @task_group
        def refine() -> None:
            @chat_completion(result_format="text", request={"temperature": 0.7, "max_tokens": 60})
            def write(*, loop: Any = None, params: Any = None) -> str:
                advice = f" Follow this advice: {loop.previous['advice']}" if loop.index else ""
                return f"Write one sentence about {params['topic']}.{advice}"

            @chat_completion(
                response_schema=Verdict, result_format="json", request={"temperature": 0, "max_tokens": 200}
            )
            def judge(sentence: str) -> str:
                return f"Are you content with this sentence? If not, advise its author. Answer in JSON.\n\n{sentence}"

            judge(write())

        @task
        def last(ti: Any = None) -> str:
            return str(ti.xcom_pull(task_ids="refine.write")[-1])  # outside the loop there is one of each iteration

        refine.loop(max_iterations=4, until=content) >> last()  # type: ignore[attr-defined]
