"""A batch that goes through a vendor's batch API, with the trigger between its stretches of work."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.operators import ChatCompletionBatchOperator
from airflow_chat_provider.testing import BatchServer
from airflow_chat_provider.triggers import ChatCompletionBatchTrigger
from tests.support.batching import Batch


class VendorBatch(Batch):
    """``run`` is one try, with all its waits: each stretch has a task of its own, as each has a process in Airflow."""

    def __init__(self, folder: Path, vendor: BatchServer) -> None:
        super().__init__(folder, vendor)
        self.vendor = vendor
        self.waits = 0
        self.events: list[Any] = []
        self.arguments |= {"via": "batch_api"}

    def execute(self, task: ChatCompletionBatchOperator) -> dict[str, Any]:
        context: Any = {"ti": self}
        call = lambda: task.execute(context)  # noqa: E731 - it changes below
        while True:
            try:
                return call()
            except exceptions.TaskDeferred as deferred:
                self.waits += 1
                event = self.event_of(deferred)
                method, fresh = deferred.method_name, self.task(**self._given)
                call = lambda: getattr(fresh, method)(context, event)  # noqa: E731, B023 - called before they change
            except exceptions.AirflowFailException as error:
                raise error.__cause__ or error from None

    def task(self, **arguments: Any) -> ChatCompletionBatchOperator:
        self._given = arguments
        return super().task(**arguments)

    def event_of(self, deferred: Any) -> Any:
        """What the trigger fires, made anew from what Airflow keeps of it."""
        path, arguments = deferred.trigger.serialize()
        assert path.endswith("ChatCompletionBatchTrigger")
        trigger = ChatCompletionBatchTrigger(**json.loads(json.dumps(arguments)))

        async def first() -> Any:
            return [event.payload async for event in trigger.run()]

        (event,) = asyncio.run(first())
        self.events.append(event)
        return event

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The orders, as the folder has them."""
        return list(self.identity.get("jobs", []))

    @property
    def identity(self) -> dict[str, Any]:
        file = self.output / "batch.json"
        return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}

    @property
    def sent(self) -> list[str]:
        """The rows of all requests in all batches that were started, by their custom ids without digests, sorted."""
        lines = (json.loads(line) for batch in self.vendor.batches for line in batch.input.lines)
        return sorted(line["custom_id"].rpartition("-")[0] for line in lines)


def spent(manifest: dict[str, Any]) -> int:
    """The tokens that a batch says that it took."""
    return int(manifest["usage"]["total_tokens"] or 0)
