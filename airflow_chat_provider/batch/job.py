"""One run of a batch, from the task's arguments to its manifest."""

from __future__ import annotations

import gc
import json
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

from airflow_chat_provider.batch.orders import dropped_by_restart, leave_to_calls
from airflow_chat_provider.batch.output.store import (
    ERRORS,
    IDENTITY,
    KEPT_FOR,
    MANIFEST,
    RESULTS,
    identity_in,
    manifest_in,
)
from airflow_chat_provider.batch.output.tally import NAMES
from airflow_chat_provider.batch.reuse import kept_as
from airflow_chat_provider.core.cost.prices import shown
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from airflow_chat_provider.batch.background import Background
    from airflow_chat_provider.batch.engine import Engine
    from airflow_chat_provider.batch.input import Source, Survey
    from airflow_chat_provider.batch.orders import Wait
    from airflow_chat_provider.batch.output.store import Store
    from airflow_chat_provider.batch.xcoms import XComs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Job:
    """A batch that is ready to run. The operator makes it; ``max_failures`` is its argument as the user wrote it."""

    source: Source
    survey: Survey
    engine: Engine
    shard: str | None
    on_changed: Literal["fail", "restart"]
    max_failures: float | str | None

    @property
    def waits(self) -> Wait | None:
        """What the batch waits for, if all is done that can be done now, but the batch has not ended."""
        return None

    def run(self, background: Background, xcoms: XComs | None = None) -> tuple[dict[str, Any], BaseException | None]:
        """Ask for every row without a result: the manifest, and what the task is to end with instead, if anything.

        Raises InvalidRequest or StoreError where the output is not this batch's or cannot be written; then nothing was
        sent.
        """
        engine, store = self.engine, self.engine.store
        identity_in(store)  # raises before anything is made in a folder of somebody else's
        store.open()
        try:
            identity = self._claim()
            engine.history.load(store, engine.tally, engine.requests)
            if engine.tally.stored.succeeded:
                engine.tally.note_model(_model_in(store))
            engine.look_back()
            store.check()  # if two runs began at once, only one continues from here
            engine.tally.begin(time.monotonic())
            self._begin(identity)
            spent, stopped = (engine.tally.tokens, engine.tally.cost), None
            show = None if xcoms is None else lambda: xcoms.show(self._manifest())
            gc.freeze()  # or each full collection walks through all of Airflow: a tenth of a batch's CPU time
            try:
                background.run(self._work(identity["id"], show))
            except BaseException as error:  # noqa: BLE001 - raised by the caller, once the manifest is in XCom
                stopped = error
            finally:
                gc.unfreeze()
            if stopped is None and self.waits is not None:
                return self._manifest(), None
            manifest = self._write_manifest()
            self._log_end(manifest, spent)
            return manifest, stopped or engine.error or self._shortfall()
        finally:
            store.close()
            engine.close()

    def _begin(self, identity: dict[str, Any]) -> None:
        """Get ready to work in the folder, which says this of the batch in it. Raises ChatCompletionError."""
        leave_to_calls(self.engine.store, identity)

    def _work(self, batch_id: str, show: Callable[[], None] | None) -> Coroutine[Any, Any, None]:
        """What is to be done for the rows."""
        return self.engine.run(batch_id, self.source.rows, show)

    def continued(self) -> dict[str, Any] | None:
        """What the output says of this batch, if an earlier run began it. Nothing is written.

        Results of another input or request must not mix with this batch's: their digests tell the batches apart.
        Raises InvalidRequest where the output is somebody else's, or holds such results, unless they are to be deleted.
        """
        store, fingerprint = self.engine.store, self._fingerprint()
        found = identity_in(store)
        known = found.get("fingerprint") if found else None
        changed = [name for name in fingerprint if found and (known or {}).get(name) != fingerprint[name]]
        if changed and self.on_changed == "fail":
            raise InvalidRequest(
                f"Name another output: its results were made with a different {' and '.join(changed)}. Or set "
                f"on_changed='restart' to delete {store.where(RESULTS)}",
                path="output",
                keyword="fingerprint",
            )
        return None if changed else found

    def _fingerprint(self) -> dict[str, str]:
        engine = self.engine
        wanted = [] if engine.wanted.schema is None else [engine.wanted.schema.schema]
        return {
            "input": self.survey.digest,
            "request": _digest([engine.requests.template.sources, engine.settings.model, *wanted]),
            "output": _digest([engine.shape, self.shard]),
        }

    def _claim(self) -> dict[str, Any]:
        """Make the output this batch's, unless it already is; returns what ``batch.json`` says."""
        engine, store = self.engine, self.engine.store
        found = self.continued()
        store.claim()
        if found is None:
            store.clear()
            batch_id, rows, fingerprint = uuid.uuid4().hex, engine.tally.total, self._fingerprint()
            found = {"kept_for": KEPT_FOR, "version": 1, "id": batch_id, "rows": rows, "fingerprint": fingerprint}
            found |= dropped_by_restart(identity_in(store))
        if "answers" not in found:  # or an older version of this package began the batch
            found = {**found, "answers": kept_as(engine.shape, engine.wanted)}
            store.put(IDENTITY, json.dumps(found).encode())
        store.spill.batch = found["id"]
        return found

    def _manifest(self) -> dict[str, Any]:
        """The outcome so far."""
        store = self.engine.store
        paths = {"results": store.where(RESULTS), "errors": store.where(ERRORS)}
        return {**paths, **self.engine.tally.manifest(time.monotonic())}

    def _write_manifest(self) -> dict[str, Any]:
        """Write the outcome so far into the output, too. A failure to do so is only logged."""
        store, manifest = self.engine.store, self._manifest()
        try:
            store.check()
            self.engine.history.tidy(store)
            store.put(MANIFEST, json.dumps(manifest, indent=1).encode())
        except ChatCompletionError as error:  # the results are stored all the same
            log.warning("%s", error)
        except Exception as error:  # noqa: BLE001 - it must not hide the error that ended the batch
            log.warning("The manifest could not be written (%s)", type(error).__name__)
        return manifest

    def _log_end(self, manifest: dict[str, Any], spent: tuple[int, Decimal | None]) -> None:
        """One line for the log, however the batch ended. ``spent``: the tokens of earlier runs, and their cost."""
        tally, (tokens, cost) = self.engine.tally, spent
        before = "" if cost is None else f" and {shown(cost, tally.currency)}"
        known = tally.cost is not None and tally.cost != cost
        counts = [
            plural(manifest["total"], "row"),
            f"{manifest['succeeded'] - tally.earlier - tally.given_now.total():,} answered",
            *(f"{count:,} {NAMES[source]}" for source, count in sorted(tally.given_now.items())),
            f"{sum(manifest['failed'].values()):,} failed",
            f"{tally.earlier:,} kept from earlier tries" if tally.earlier else "",
            f"{manifest['missing']:,} missing" if manifest["missing"] else "",
            plural(tally.tokens - tokens, "token"),
            shown((tally.cost or Decimal(0)) - (cost or Decimal(0)), tally.currency) if known else "",
            f"{tokens:,}{before} in earlier runs" if tokens or before else "",
            f"{manifest['seconds']:.1f} s",
        ]
        how = "stopped early" if manifest["missing"] else "ended"
        log.info("Batch %s: %s, results in %s", how, ", ".join(filter(None, counts)), manifest["results"])

    def _shortfall(self) -> ChatCompletionError | None:
        """The error of a batch that came to its end with too many failed rows, or with rows missing."""
        tally = self.engine.tally
        if tally.stored.incomplete:
            log.warning(
                "Raise the token limit or change the prompt: %s of the answers %s incomplete",
                f"{tally.stored.incomplete:,}",
                "is" if tally.stored.incomplete == 1 else "are",
            )
        if tally.failures > self.engine.max_failures:
            kinds = ", ".join(f"{kind}: {count:,}" for kind, count in tally.came.failed.most_common(5))
            found = f"{tally.failures:,} of {tally.total:,} rows failed (max_failures {self.max_failures}): {kinds}"
            where = f"See {self.engine.store.where(ERRORS)}"
            return self.engine.reasons.error(found, where, self.engine.max_failures)
        if tally.missing:
            return ChatCompletionError(
                f"Run the task again, and do not change the input meanwhile: {plural(tally.missing, 'row')} of "
                f"{self.source.name} disappeared while it was read"
            )
        return None


def _model_in(store: Store) -> str | None:
    """The model that answered in earlier runs, as the manifest of the last one says, if that was written."""
    usage = (manifest_in(store) or {}).get("usage")
    model = usage.get("model") if isinstance(usage, dict) else None
    return model if isinstance(model, str) else None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
