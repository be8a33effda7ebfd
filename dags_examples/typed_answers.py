"""Answers that fit: a class for the answer, a function that is a task, and a model that decides what runs next."""

from typing import Any, Literal

from airflow.sdk import DAG, task
from pydantic import BaseModel

from airflow_chat_provider.decorators import chat_completion, chat_completion_branch


class Verdict(BaseModel):
    sentiment: Literal["positive", "negative", "mixed"]
    wants_reply: bool


LETTER = "The kettle leaks. I want my money back, and please answer this time."

with DAG(dag_id="example_chat_typed_answers", schedule=None, params={"letter": LETTER}, doc_md=__doc__):

    @chat_completion(
        response_schema=Verdict,
        result_format="json",
        request={"temperature": 0, "seed": 1, "max_tokens": 60},
    )
    def classify(letter: str) -> str:
        return f"Classify this letter to a shop. Answer in JSON.\n\n{letter}"

    @chat_completion_branch(
        branches={"refund": "the writer wants money back", "thank": "the writer is happy"},
        request={"temperature": 0, "seed": 1, "max_tokens": 40},
    )
    def decide(letter: str, verdict: dict[str, Any]) -> str:
        return f"A {verdict['sentiment']} letter to a shop:\n\n{letter}"

    @task
    def refund() -> str:
        return "refunded"

    @task
    def thank() -> str:
        return "thanked"

    decide("{{ params.letter }}", classify("{{ params.letter }}")) >> [refund(), thank()]
