"""A batch without the rest of Airflow: rows in a file, the operator run as a task runs it, lines read back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.errors import ChatCompletionError
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.testing import ChatServer, Received


class Batch:
    """``run`` it as often as need be: each is another try of the same task."""

    def __init__(self, folder: Path, chat: ChatServer) -> None:
        self.chat = chat
        self.input = folder / "rows.jsonl"
        self.output = folder / "out"
        self.pushed: dict[str, Any] = {}
        self.pushes: list[tuple[str, Any]] = []
        self.arguments: dict[str, Any] = {"prompt": "{{ row.text }}", "result_format": "text", "max_attempts": 1}

    def write(self, *rows: Any) -> None:
        """The input: a JSON line for each row, a text as it stands."""
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        self.input.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def texts(self, count: int) -> None:
        """The input: so many rows that say ``row 0``, ``row 1``, ..."""
        self.write(*({"text": f"row {index}"} for index in range(count)))

    def task(self, **arguments: Any) -> ChatCompletionBatchOperator:
        given = {"input": str(self.input), "output": str(self.output), **self.arguments, **arguments}
        return ChatCompletionBatchOperator(task_id="bulk", dag=DAG("bulk", schedule=None), **given)

    def run(self, **arguments: Any) -> dict[str, Any]:
        """The manifest of one try."""
        return self.execute(self.task(**arguments))

    def execute(self, task: ChatCompletionBatchOperator) -> dict[str, Any]:
        """As Airflow does, with this as the task instance."""
        context: Any = {"ti": self}
        try:
            return task.execute(context)
        # Before Airflow 3.3 a final error is the cause of Airflow's own.
        except exceptions.AirflowFailException as error:
            raise error.__cause__ or error from None

    def error(self, **arguments: Any) -> ChatCompletionError:
        """What one try fails with."""
        try:
            manifest = self.run(**arguments)
        except ChatCompletionError as error:
            return error
        raise AssertionError(f"it did not fail: {manifest}")

    def xcom_push(self, key: str, value: Any) -> None:
        """As a task instance has it."""
        self.pushed[key] = value
        self.pushes.append((key, value))

    @property
    def results(self) -> list[dict[str, Any]]:
        """The lines of rows that were answered, in the order of the rows."""
        return lines(self.output / "results.jsonl")

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The lines of rows that failed, in the order of the rows."""
        return lines(self.output / "errors.jsonl")

    @property
    def asked(self) -> list[str]:
        """The prompts that the server got, sorted."""
        return sorted(map(prompt_of, self.chat.requests))

    @property
    def times(self) -> Counter[str]:
        """How often the server got each prompt."""
        return Counter(self.asked)


def attach_store(folder: Path) -> None:
    """Let ``memory://`` be an object store whose files are in a folder, which other processes see, too."""
    from airflow.sdk.io import attach
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    attach("memory", fs=DirFileSystem(path=str(folder), fs=LocalFileSystem(auto_mkdir=True)))


def lines(file: Path) -> list[dict[str, Any]]:
    return in_order(json.loads(line) for line in file.read_text("utf-8").split("\n")[:-1])


def in_order(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda line: line["index"])


def prompt_of(request: Received) -> str:
    messages: list[Mapping[str, Any]] = request.json["messages"]
    return str(messages[-1]["content"])
