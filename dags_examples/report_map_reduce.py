"""A report by map and reduce: one call for the reviews of each product, all at once, and one that joins the results."""

import csv
from collections import defaultdict
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_chat_provider.decorators import chat_completion

REVIEWS = Path(__file__).parent / "data" / "reviews.csv"

with DAG(dag_id="example_chat_report_map_reduce", schedule=None, doc_md=__doc__):

    @task
    def products() -> list[dict[str, str]]:
        """Each product with all of its reviews."""
        reviews: dict[str, list[str]] = defaultdict(list)
        with REVIEWS.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                reviews[row["product"]].append(row["review"])
        return [{"product": product, "reviews": "\n\n".join(texts)} for product, texts in reviews.items()]

    @chat_completion(result_format="text", request={"temperature": 0, "seed": 1, "max_tokens": 60})
    def summarise(product: str, reviews: str) -> str:
        return f"Summarise what customers say of this product, {product}, in one sentence:\n\n{reviews}"

    @chat_completion(
        result_format="text",
        system_prompt="You write short reports for the owner of a shop.",
        request={"temperature": 0, "seed": 1, "max_tokens": 200},
    )
    def report(summaries: list[str]) -> str:
        found = "\n".join(f"- {summary.strip()}" for summary in summaries)
        return f"Which product needs attention first, and why? The products:\n\n{found}"

    @task
    def show(text: str) -> None:
        print(text)  # noqa: T201 - a task's log

    show(report(summarise.expand_kwargs(products())))
