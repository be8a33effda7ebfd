"""One run of a batch, from the task's arguments to its manifest."""

from __future__ import annotations

import gc
import json
import logging
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_chat_provider.batch.checks import allow_sockets, file_mode, most_failures, number, optional_number
from airflow_chat_provider.batch.engine import Engine, Speed
from airflow_chat_provider.batch.input.shard import Shard
from airflow_chat_provider.batch.input.source import open_source
from airflow_chat_provider.batch.output.history import History
from airflow_chat_provider.batch.output.lines import Shape
from airflow_chat_provider.batch.output.open import identity_in, new_identity, store_for
from airflow_chat_provider.batch.output.store import ERRORS, IDENTITY, MANIFEST, RESULTS
from airflow_chat_provider.batch.output.tally import Tally
from airflow_chat_provider.batch.requests import Requests
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.schema import load_schema
from airflow_chat_provider.task.xcoms import Upstream
from airflow_chat_provider.transport import server_memory

if TYPE_CHECKING:
    from airflow_chat_provider.batch.background import Background
    from airflow_chat_provider.batch.input.source import Source, Survey
    from airflow_chat_provider.batch.output.store import Store
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.request.schema import RequestSchema
    from airflow_chat_provider.task.arguments import ChatArguments
    from airflow_chat_provider.templates.request_template import RequestTemplate

log = logging.getLogger(__name__)


class BatchArguments(NamedTuple):
    """What the batch operator has beyond ChatArguments, once its templates are rendered."""

    input: Any
    output_path: Any
    response_key: str | None
    id_key: str
    keep_row: bool
    shard: str | None
    max_concurrency: int | str
    requests_per_minute: float | str | None
    tokens_per_minute: float | str | None
    max_failures: float | str | None
    on_changed: Literal["fail", "restart"]
    file_mode: int | str | None
    part_rows: int | str
    part_seconds: float | str

    @classmethod
    def from_task(cls, task: object) -> BatchArguments:
        """The arguments as they are now."""
        return cls(*(getattr(task, name) for name in cls._fields))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Job:
    """A batch that is ready to run. ``prepare`` makes it."""

    arguments: BatchArguments
    template: RequestTemplate
    settings: Settings
    schema: RequestSchema | None
    wanted: Wanted
    shape: Shape
    source: Source
    survey: Survey
    speed: Speed
    store: Store
    tally: Tally
    history: History

    @classmethod
    def prepare(cls, chat: ChatArguments, arguments: BatchArguments, template: RequestTemplate) -> Job:
        """Look up the connection and read the input once. Raises InvalidRequest for what is wrong with the arguments.

        The model is the upstream task's or the connection's, for requests that name none.
        """
        upstream = Upstream(chat.configuration or {})
        settings = upstream.hook(chat).settings
        schema = load_schema(upstream.schema(chat, settings))
        wanted = chat.wanted()
        server_memory.warn(wanted)
        source = open_source(arguments.input)
        survey = source.survey()
        if not survey.rows:
            log.info("Nothing is sent: %s has no rows", source.name)
        shard = Shard.parse(arguments.shard)
        rows = shard.indices(survey.rows)
        speed = Speed(
            int(number("max_concurrency", arguments.max_concurrency)),
            optional_number("requests_per_minute", arguments.requests_per_minute),
            optional_number("tokens_per_minute", arguments.tokens_per_minute),
            most_failures(arguments.max_failures, len(rows)),
        )
        allow_sockets(speed.max_concurrency)
        folder = arguments.output_path
        store = store_for(
            f"{str(folder).rstrip('/')}/shard-{shard}" if arguments.shard else folder,
            part_rows=int(number("part_rows", arguments.part_rows)),
            part_seconds=number("part_seconds", arguments.part_seconds),
            in_flight=speed.max_concurrency,
            file_mode=file_mode(arguments.file_mode),
        )
        return cls(
            arguments=arguments,
            template=template,
            settings=settings._replace(model=upstream.values.get("model") or settings.model),
            schema=schema,
            wanted=wanted,
            shape=Shape(
                arguments.id_key, chat.result_format, arguments.response_key, chat.on_incomplete, arguments.keep_row
            ),
            source=source,
            survey=survey,
            speed=speed,
            store=store,
            tally=Tally(len(rows)),
            history=History(survey.rows, rows),
        )

    def run(self, background: Background) -> tuple[dict[str, Any], Exception | None]:
        """Ask for every row without a result: the manifest, and the error that makes the task fail, if any.

        Raises InvalidRequest or StoreError where the output is not this batch's or cannot be written; then nothing was
        sent.
        """
        identity_in(self.store)  # raises before anything is made in a folder of somebody else's
        self.store.open()
        try:
            engine = self._engine(self._claim())
            self.store.check()  # if two runs began at once, only one continues from here
            self.tally.begin(time.monotonic())
            gc.freeze()  # or each full collection walks through all of Airflow: a tenth of a batch's CPU time
            try:
                background.run(engine.run(self.source.rows(self._is_missing)))
            finally:
                gc.unfreeze()
                manifest = self._write_manifest()
            return manifest, engine.error or self._shortfall()
        finally:
            self.store.close()

    def _is_missing(self, index: int) -> bool:
        return index in self.history.rows and not self.history.done[index]

    def _engine(self, batch_id: str) -> Engine:
        requests = Requests(self.template, self.settings, self.schema, self.arguments.id_key, self.survey.rows)
        self.history.load(self.store, self.tally, requests)
        return Engine(
            batch_id=batch_id,
            settings=self.settings,
            requests=requests,
            wanted=self.wanted,
            shape=self.shape,
            store=self.store,
            history=self.history,
            tally=self.tally,
            speed=self.speed,
        )

    def _claim(self) -> str:
        """Make the output this batch's, unless it already is; returns the batch's id.

        Results of another input or request must not mix with this batch's: their digests tell the batches apart.
        """
        wanted = [] if self.wanted.schema is None else [self.wanted.schema.schema]
        fingerprint = {
            "input": self.survey.digest,
            "request": _digest([self.template.sources, self.settings.model, *wanted]),
            "output": _digest([self.shape, self.arguments.shard]),
        }
        found = identity_in(self.store)
        known = found.get("fingerprint") if found else None
        changed = [name for name in fingerprint if found and (known or {}).get(name) != fingerprint[name]]
        if changed and self.arguments.on_changed == "fail":
            raise InvalidRequest(
                "Name another output, or set on_changed='restart' to delete the results in "
                f"{self.store.where(RESULTS)}: they were made with another {' and '.join(changed)}",
                path="output",
                keyword="fingerprint",
            )
        self.store.claim()
        if found is None or changed:
            self.store.clear()
            found = new_identity(fingerprint, self.tally.total)
            self.store.put(IDENTITY, json.dumps(found).encode())
        self.store.spill.batch = found["id"]
        return str(found["id"])

    def _write_manifest(self) -> dict[str, Any]:
        """Write the outcome so far into the output, too. A failure to do so is only logged."""
        paths = {"results": self.store.where(RESULTS), "errors": self.store.where(ERRORS)}
        manifest = {**paths, **self.tally.manifest(time.monotonic())}
        try:
            self.store.check()
            self.history.tidy(self.store)
            self.store.put(MANIFEST, json.dumps(manifest, indent=1).encode())
        except ChatCompletionError as error:  # the results are stored all the same
            log.warning("%s", error)
        except Exception as error:  # noqa: BLE001 - it must not hide the error that ended the batch
            log.warning("The manifest could not be written (%s)", type(error).__name__)
        return manifest

    def _shortfall(self) -> ChatCompletionError | None:
        """The error of a batch that came to its end with too many failed rows, or with rows missing."""
        tally = self.tally
        if tally.stored.incomplete:
            log.warning(
                "Raise the token limit or change the prompt: %d answers are incomplete", tally.stored.incomplete
            )
        if tally.failures > self.speed.max_failures:
            return ChatCompletionError(
                f"Look at {self.store.where(ERRORS)}, then run the task again; it asks only for rows that failed or "
                f"are missing. {tally.failures:,} of {tally.total:,} rows failed (max_failures "
                f"{self.arguments.max_failures}): {tally.failures_by_kind()}"
            )
        if tally.missing:
            return ChatCompletionError(
                f"Run the task again, and do not change the input meanwhile: {tally.missing:,} rows of "
                f"{self.source.name} disappeared while it was read"
            )
        return None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
