"""One run of a batch, from the task's arguments to its manifest."""

from __future__ import annotations

import gc
import json
import logging
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.checks import file_mode, most_failures, number
from airflow_chat_provider.batch.engine import Engine, Speed
from airflow_chat_provider.batch.input.shard import Shard
from airflow_chat_provider.batch.input.source import open_source
from airflow_chat_provider.batch.limits import allow_sockets
from airflow_chat_provider.batch.output.history import History
from airflow_chat_provider.batch.output.lines import Shape
from airflow_chat_provider.batch.output.store import (
    ERRORS,
    IDENTITY,
    MANIFEST,
    RESULTS,
    identity_in,
    new_identity,
    store_for,
)
from airflow_chat_provider.batch.output.tally import Tally
from airflow_chat_provider.batch.requests import Requests
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.task.arguments import ChatArguments
from airflow_chat_provider.task.xcoms import Upstream
from airflow_chat_provider.transport import server_memory

if TYPE_CHECKING:
    from airflow_chat_provider.batch.background import Background
    from airflow_chat_provider.batch.operator import ChatCompletionBatchOperator
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.templates.request_template import RequestTemplate

log = logging.getLogger(__name__)


class Job:
    """What is wrong with the task, its input or its output is raised before the first request is sent."""

    def __init__(self, task: ChatCompletionBatchOperator, template: RequestTemplate) -> None:
        self._task = task
        self._template = template
        self._settings, schema = _endpoint(task)
        self._schema = load_schema(schema)
        self._shape = Shape(task.id_key, task.result_format, task.response_key, task.on_incomplete, task.keep_row)
        self._wanted = ChatArguments.from_task(task).wanted()
        server_memory.warn(self._wanted)
        self._source = open_source(task.input)
        self._survey = self._source.survey()
        if not self._survey.rows:
            log.info("Nothing is sent: %s has no rows", self._source.name)
        shard = Shard.parse(task.shard)
        self._rows = shard.indices(self._survey.rows)
        self._speed = Speed(
            int(number(vars(task), "max_concurrency") or 1),
            number(vars(task), "requests_per_minute"),
            number(vars(task), "tokens_per_minute"),
            most_failures(task.max_failures, len(self._rows)),
        )
        allow_sockets(self._speed.max_concurrency)
        self._store = store_for(
            f"{str(task.output_path).rstrip('/')}/shard-{shard}" if task.shard else task.output_path,
            part_rows=int(number(vars(task), "part_rows") or 1),
            part_seconds=number(vars(task), "part_seconds") or 1.0,
            in_flight=self._speed.max_concurrency,
            file_mode=file_mode(task.file_mode),
        )
        self._tally = Tally(len(self._rows))
        self._history = History(self._survey.rows, self._rows)

    def run(self, background: Background) -> tuple[dict[str, Any], Exception | None]:
        """The manifest, and what makes the task fail, if anything."""
        identity_in(self._store)  # before anything is made in somebody else's folder
        self._store.open()
        try:
            engine = self._engine(self._claim())
            self._store.check()  # of two that began at once, only one goes on from here
            self._tally.begin(time.monotonic())
            gc.freeze()  # else each full collection looks through all of Airflow: a tenth of a batch's CPU
            try:
                background.run(engine.run(self._source.rows(self._is_missing)))
            finally:
                gc.unfreeze()
                manifest = self._keep()
            return manifest, engine.error or self._shortfall()
        finally:
            self._store.close()

    def _is_missing(self, index: int) -> bool:
        return index in self._rows and not self._history.done[index]

    def _engine(self, batch_id: str) -> Engine:
        requests = Requests(self._template, self._settings, self._schema, self._task.id_key, self._survey.rows)
        self._history.load(self._store, self._tally, requests)
        return Engine(
            batch_id=batch_id,
            settings=self._settings,
            requests=requests,
            wanted=self._wanted,
            shape=self._shape,
            store=self._store,
            history=self._history,
            tally=self._tally,
            speed=self._speed,
        )

    def _claim(self) -> str:
        """Make the output this batch's, unless it is that already; the batch's id."""
        fingerprint = {
            "input": self._survey.digest,
            "request": _digest([self._template.sources, self._settings.model, *self._asked_for()]),
            "output": _digest([self._shape, self._task.shard]),
        }
        found = identity_in(self._store)
        known = found.get("fingerprint") if found else None
        changed = [name for name in fingerprint if found and (known or {}).get(name) != fingerprint[name]]
        if changed and self._task.on_changed == "fail":
            raise InvalidRequest(
                f"Name another output, or set on_changed='restart' to lose what is in {self._store.where(RESULTS)}: it "
                f"was begun with another {' and '.join(changed)}",
                path="output",
                keyword="fingerprint",
            )
        self._store.claim()
        if found is None or changed:
            self._store.clear()
            found = new_identity(fingerprint, len(self._rows))
            self._store.put(IDENTITY, json.dumps(found).encode())
        self._store.spill.batch = found["id"]
        return str(found["id"])

    def _asked_for(self) -> list[Any]:
        schema = self._wanted.schema
        return [schema.schema] if schema is not None else []

    def _keep(self) -> dict[str, Any]:
        """Leave the outcome so far in the output, too."""
        paths = {"results": self._store.where(RESULTS), "errors": self._store.where(ERRORS)}
        manifest = {**paths, **self._tally.manifest(time.monotonic())}
        try:
            self._store.check()
            self._history.tidy(self._store)
            self._store.put(MANIFEST, json.dumps(manifest, indent=1).encode())
        except ChatCompletionError as error:  # the results are there all the same
            log.warning("%s", error)
        except Exception as error:  # noqa: BLE001 - what ended the batch must be told, not this
            log.warning("The manifest could not be written (%s)", type(error).__name__)
        return manifest

    def _shortfall(self) -> ChatCompletionError | None:
        """Why the batch is not what was wanted, although nothing ended it from outside."""
        tally = self._tally
        if tally.stored.incomplete:
            log.warning(
                "Raise the token limit or change the prompt: %d answers are incomplete", tally.stored.incomplete
            )
        if tally.failures <= self._speed.max_failures:
            if not tally.missing:
                return None
            return ChatCompletionError(
                f"Run the task again with an input that stands still: {self._source.name} lost {tally.missing:,} rows "
                "while it was read"
            )
        return ChatCompletionError(
            f"Look into {self._store.where(ERRORS)}, then run the task again, which asks for failed and missing rows "
            f"only: {tally.failures:,} of {tally.total:,} rows failed (max_failures {self._task.max_failures}), "
            f"{tally.told()}"
        )


def _endpoint(task: ChatCompletionBatchOperator) -> tuple[Settings, Any]:
    """The connection with the task's own limits and upstream's model, and which schema holds."""
    arguments = ChatArguments.from_task(task)
    upstream = Upstream.from_argument(arguments.configuration)
    settings = upstream.hook(arguments).settings
    schema = upstream.schema(arguments, settings)
    return settings._replace(model=upstream.values.get("model") or settings.model), schema


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
