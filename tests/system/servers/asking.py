"""One question, asked by a real task and by a client that knows nothing of the project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_chat_provider.operators import ChatCompletionOperator
from tests.support.running import Airflow
from tests.system.servers.direct import Answer
from tests.system.servers.served import NUMBERS, Served
from tests.system.servers.table import Cell

# What differs between two replies to the same request.
VOLATILE = {
    "created",
    "id",
    "metrics",
    "prompt_tokens_details",  # what was found in a cache
    "request_id",
    "system_fingerprint",
    "timings",
}


@dataclass(frozen=True)
class Done:
    """What a task left."""

    state: str
    xcoms: dict[str, Any]
    error: Any

    @property
    def body(self) -> Any:
        return self.xcoms.get("body")

    @property
    def choice(self) -> dict[str, Any]:
        return dict(self.body["choices"][0])

    @property
    def text(self) -> str:
        return self.choice["message"].get("content") or ""

    @property
    def value(self) -> Any:
        return self.xcoms.get("return_value")

    @property
    def messages(self) -> list[Any]:
        return list(self.xcoms["messages"])


class At:
    """A server under test. ``yes`` and ``no`` fill its cell of the table; a test that does neither leaves it red."""

    def __init__(self, served: Served, cell: Cell, log: Path, run_dag: Callable[..., Any]) -> None:
        self.served = served
        self._cell, self._log, self._run_dag = cell, log, run_dag

    def yes(self, note: str = "") -> None:
        self._cell.state, self._cell.note = "yes", note

    def no(self, note: str) -> None:
        self._cell.state, self._cell.note = "no", note

    def body(self, prompt: str = NUMBERS, **fields: Any) -> dict[str, Any]:
        """A request whose answer is the same each time, as far as that is up to a request."""
        messages = [{"role": "user", "content": prompt}]
        settled = {"model": self.served.model, "temperature": 0, "seed": 1, "max_tokens": 24}
        return {**settled, "messages": messages, **fields}

    def direct(self, body: dict[str, Any], **arguments: Any) -> Answer:
        return self.served.post(body, log=self._log, **arguments)

    def airflow(self) -> Airflow:
        return Airflow(self._run_dag)

    def ask(self, body: dict[str, Any], **arguments: Any) -> Done:
        """By the operator, in a DAG of its own."""
        airflow = self.airflow()
        with airflow.dag():
            ChatCompletionOperator(task_id="ask", request=body, **arguments)
        run = airflow.run()
        done = Done(run.states()["ask"], run.xcoms(), airflow.error())
        assert (done.error is None) is (done.state == "success")
        return done

    def succeed(self, body: dict[str, Any], **arguments: Any) -> Done:
        done = self.ask(body, **arguments)
        assert done.error is None, done.error
        return done

    def refused(self, direct: Answer, done: Done, what: str = "") -> None:
        """The task failed by the server's own status and words, and has its body."""
        assert done.error is not None, f"the server refused by {direct.words}, and the task succeeded"
        assert (done.error.status, done.xcoms["status"]) == (direct.status, direct.status)
        assert stable(done.body) == stable(_body(direct))
        self.no(what + direct.words)


def _body(direct: Answer) -> Any:
    try:
        return direct.json
    except ValueError:
        return direct.content.decode()


def stable(value: Any) -> Any:
    """A body without what differs from reply to reply."""
    if isinstance(value, dict):
        return {key: stable(item) for key, item in value.items() if key not in VOLATILE}
    return [stable(item) for item in value] if isinstance(value, list) else value


def leaves(value: Any, path: str = "$") -> Iterator[str]:
    """The paths of everything that is not null, without the numbers of lists."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, f"{path}[]")
    elif value is not None:
        yield path
