"""An answer that a person approves: a model drafts it, Airflow waits for a click, and only then it is sent.

The request for approval is in Airflow's UI, under Required Actions. What is rejected is not sent.
"""

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, task

from airflow_chat_provider.operators import ChatCompletionOperator

LETTER = "The kettle leaks, and this is my second letter. What now?"

with DAG(dag_id="example_chat_approved_answer", schedule=None, params={"letter": LETTER}, doc_md=__doc__):
    draft = ChatCompletionOperator(
        task_id="draft",
        system_prompt="You answer the letters of a shop's customers in two friendly sentences. Promise nothing.",
        prompt="{{ params.letter }}",
        request={"temperature": 0.3, "max_tokens": 120},
        result_format="text",
    )

    approve = ApprovalOperator(
        task_id="approve",
        subject="Send this answer to the customer?",
        body="The customer wrote:\n\n> {{ params.letter }}\n\nThe answer:\n\n> {{ ti.xcom_pull('draft') }}",
    )

    @task
    def send(answer: str) -> str:
        print(f"Sent: {answer}")  # noqa: T201 - where an example ends, and your mail begins
        return answer

    draft >> approve >> send(draft.output)
