"""Pictures of invoices read into fields: `attachments` sends a file with the prompt, and a class says what to look for.

For a model that sees pictures; the small one that comes with this package does not.
"""

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task
from pydantic import BaseModel, Field

from airflow_chat_provider.operators import ChatCompletionOperator

PICTURES = Path(__file__).parent / "data" / "invoices"


class Invoice(BaseModel):
    number: str
    seller: str
    total: float = Field(description="The sum to be paid, without the currency")
    currency: str = Field(min_length=3, max_length=3)


with DAG(dag_id="example_chat_invoices", schedule=None, params={"folder": str(PICTURES)}, doc_md=__doc__):

    @task
    def pictures(params: dict[str, Any] | None = None) -> list[str]:
        return sorted(map(str, Path((params or {})["folder"]).glob("*.png")))

    read = ChatCompletionOperator.partial(
        task_id="read",
        prompt="Read this invoice. Answer in JSON.",
        request={"temperature": 0, "seed": 1, "max_tokens": 200},
        response_schema=Invoice,
        result_format="json",
    ).expand(attachments=pictures())

    @task
    def total(invoices: list[dict[str, Any]]) -> dict[str, float]:
        """What is to be paid in each currency."""
        sums: dict[str, float] = {}
        for invoice in invoices:
            sums[invoice["currency"]] = round(sums.get(invoice["currency"], 0) + invoice["total"], 2)
        return sums

    total(read.output)
