"""The tickets of an SQL table that have no category: classified, and written back.

Name your database in the parameter `conn_id`: any connection that Airflow has an SQL hook for, with a table `tickets`
of `id`, `text`, `category` and `urgent`. Without it, the example makes such a table in an SQLite file. Another run asks
for new tickets only.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import DAG, BaseHook, task
from pydantic import BaseModel

from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.results import read_results

OUTPUT = Path(tempfile.gettempdir()) / "airflow_chat_examples"
TICKETS = [
    (1, "I was charged twice for order 7311.", None, None),
    (2, "My parcel has not moved for nine days, and I fly tomorrow!", None, None),
    (3, "The lid of the kettle does not close.", None, None),
    (4, "Do you sell gift cards?", "other", 0),
]


class Ticket(BaseModel):
    category: Literal["billing", "delivery", "defect", "other"]
    urgent: bool


class TicketFile(DbApiHook):
    """A database without a connection or a server."""

    conn_name_attr = "tickets_conn_id"

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    @property
    def placeholder(self) -> str:
        return "?"

    def get_conn(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        made = not self.file.exists()
        connection = sqlite3.connect(self.file)
        if made:
            connection.execute(
                "CREATE TABLE tickets (id INTEGER PRIMARY KEY, text TEXT, category TEXT, urgent INTEGER)"
            )
            connection.executemany("INSERT INTO tickets VALUES (?, ?, ?, ?)", TICKETS)
            connection.commit()
        return connection


def database(params: dict[str, Any]) -> DbApiHook:
    if params["conn_id"]:
        hook: DbApiHook = BaseHook.get_hook(params["conn_id"])
        return hook
    return TicketFile(Path(params["output"]) / "tickets.db")


with DAG(
    dag_id="example_chat_tickets_sql", schedule=None, params={"conn_id": "", "output": str(OUTPUT)}, doc_md=__doc__
):

    @task
    def new_tickets(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        found = database(params or {}).get_records("SELECT id, text FROM tickets WHERE category IS NULL ORDER BY id")
        return [{"id": number, "text": text} for number, text in found]

    classify = ChatCompletionBatchOperator(
        task_id="classify",
        input=new_tickets(),
        output="{{ params.output }}/{{ run_id }}/tickets",
        id_key="id",
        system_prompt="You sort the tickets of a shop's customers.",
        prompt="Classify this ticket. Answer in JSON.\n\n{{ row.text }}",
        request={"temperature": 0, "seed": 1, "max_tokens": 40},
        response_schema=Ticket,
        result_format="json",
        response_key="ticket",
        max_concurrency=4,
        max_failures=None,  # what failed has no category, and is asked for again in the next run
    )

    @task
    def write_back(manifest: dict[str, Any], params: dict[str, Any] | None = None) -> int:
        hook = database(params or {})
        mark = hook.placeholder
        update = f"UPDATE tickets SET category = {mark}, urgent = {mark} WHERE id = {mark}"  # noqa: S608 - "?" or "%s"
        values = [(line["ticket"]["category"], line["ticket"]["urgent"], line["id"]) for line in read_results(manifest)]
        with closing(hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
            cursor.executemany(update, values)
            connection.commit()
        return len(values)

    write_back(classify.output)
