"""A dry run of a batch: all rows are read, filled in and checked as in a real run, and nothing is sent or written."""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.airflow_api.compat import exceptions
from airflow_chat_provider.batch.caller import Hopeless, Spent
from airflow_chat_provider.batch.digests import digest_of_row
from airflow_chat_provider.batch.estimate import Bill
from airflow_chat_provider.batch.output.digest_table import DigestTable, short
from airflow_chat_provider.batch.output.first_failures import FirstFailures
from airflow_chat_provider.batch.output.lines import REUSED
from airflow_chat_provider.batch.purse import Purse
from airflow_chat_provider.batch.reuse import Answer
from airflow_chat_provider.batch.token_count import TokenCount
from airflow_chat_provider.batch.vendor.cutting import check_stream
from airflow_chat_provider.core.cost.estimate import Estimate, sure_tokens
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest, kind_of
from airflow_chat_provider.core.request.json_values import encode
from airflow_chat_provider.core.spelling import plural
from airflow_chat_provider.task import dry_run
from airflow_chat_provider.transport import server_memory
from airflow_chat_provider.transport.price_list import PriceList

if TYPE_CHECKING:
    from airflow_chat_provider.batch.input import Row
    from airflow_chat_provider.batch.job import Job
    from airflow_chat_provider.core.request.attachments import Attachments
    from airflow_chat_provider.core.types import JSONObject

_PROGRESS = 10.0  # seconds between two lines in the log
_KINDS = 100  # of failures that are told apart

log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """What the operator's arguments say of how the rows would be sent."""

    deduplicate: bool = False
    batch_api: bool = False


class Preflight:
    """Looks at all rows of a batch that have no answer yet. It keeps counts and digests, so memory stays small."""

    def __init__(self, job: Job, terms: Terms) -> None:
        self.job = job
        self.terms = terms
        self.failed: Counter[str] = Counter()
        self.first_failures = FirstFailures()
        self.reused = self.equal = self.to_send = self.files = 0
        self.counted_by: Counter[tuple[str, bool]] = Counter()
        self.first_request: dict[str, Any] | None = None
        settings = job.engine.settings
        share = 1 - settings.batch_discount if terms.batch_api else Decimal(1)
        self._prices = PriceList(settings)
        self.bill = Bill(self._prices.rates, share)
        self._purse: Purse | None = None
        self._tokens = TokenCount()
        self._seen = DigestTable(job.engine.tally.total)

    def run(self, is_stopped: Callable[[], bool]) -> None:
        """Look at the rows until ``is_stopped``.

        Raises as a real run does for an output that is not this batch's, for an input that cannot be read, and where
        no row could be sent.
        """
        history, tally = self.job.engine.history, self.job.engine.tally
        if self.job.continued() is not None:
            history.load(self.job.engine.store, tally, self.job.engine.requests)
        self.job.engine.look_back()
        tally.begin(time.monotonic())
        self._purse = Purse.of(self.job.engine.settings, self._prices, tally.usage)
        rows = self.job.source.rows(history.is_missing)
        told = time.monotonic()
        gc.freeze()  # as a real run does
        try:
            for row in rows:
                if is_stopped():
                    raise exceptions.AirflowException("Run the task again: the dry run was stopped")
                self._look(row)
                if time.monotonic() - told > _PROGRESS:
                    told = time.monotonic()
                    log.info("Dry run: %s", self._progress())
        finally:
            gc.unfreeze()
            self.job.engine.close()
            if isinstance(rows, Generator):
                rows.close()

    def _progress(self) -> str:
        looked = self.failed.total() + self.reused + self.equal * self.terms.deduplicate + self.to_send
        left = plural(self.job.engine.tally.total - self.job.engine.tally.earlier, "row")
        return f"{looked:,} of {left} checked, {self.failed.total():,} would fail"

    def _look(self, row: Row) -> None:
        try:
            sent, files, digest = self._proved(row)
            known = self.job.engine.known(row, digest)
        except Hopeless as hopeless:
            raise hopeless.error from None
        except Exception as error:  # noqa: BLE001 - this row's alone, as in a real run
            self._note_failure(row, Spent().failure(row, error))
            return
        if isinstance(known, Answer) and known.source == REUSED:
            self.reused += 1
            return
        if known is not None:
            self.equal += 1
            return
        self.equal += self._seen.add(short(digest), row.index) is not None
        self._note_request(sent, files)

    def _proved(self, row: Row) -> tuple[JSONObject, Attachments, str]:
        """The row's request in the form in which it goes out first, its files and digest. Raises as a real run does."""
        engine = self.job.engine
        question, files = engine.requests.for_row(row)
        if self.terms.batch_api:
            check_stream(row, question)
        request, found = server_memory.begin(question, engine.wanted, engine.settings).request, list[Any]()
        try:
            if self._purse is not None:
                self._purse.coming(request)  # a request without a price is refused if the cost is limited
            encode(request)
            if files:
                from airflow_chat_provider.transport.attachments import look, stamps

                look(files)
                found = stamps(files)
        except ChatCompletionError as error:
            error.reword(f"{row.place}: {error.message}")
            raise
        digest = digest_of_row(engine.settings.base_url, question, engine.wanted, found)
        return server_memory.variants(request, engine.settings.base_url)[0], files, digest

    def _note_failure(self, row: Row, error: ChatCompletionError) -> None:
        kind = kind_of(error)
        if isinstance(error, InvalidRequest) and error.keyword and len(self.failed) < _KINDS:
            kind = f"{kind} {error.keyword}"
        self.failed[kind] += 1
        self.first_failures.note(kind, row.index, self.job.engine.shape.own_id(row), error.message)

    def _note_request(self, sent: JSONObject, files: Attachments) -> None:
        if self.first_request is None:
            self.first_request = dry_run.plan(sent, self.job.engine.settings, files)
        guess = sure_tokens(sent)
        counted = self._tokens.of(sent, guess)
        self.counted_by[counted.by, counted.is_exact] += 1
        self.bill.add(sent.get("model"), Estimate(counted.tokens, guess.output_tokens))
        self.files += len(files.paths) + _media(sent)
        self.to_send += 1


def _media(request: JSONObject) -> int:
    """How many pictures, sounds and files stand in the messages themselves."""
    contents: list[Any] = [one.get("content") for one in request.get("messages") or () if isinstance(one, Mapping)]
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return sum(isinstance(part, Mapping) and not {"text", "refusal"} & part.keys() for part in parts)
