"""From a row to the request that is sent for it."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.attachments import files_of
from airflow_chat_provider.batch.caller import Hopeless
from airflow_chat_provider.batch.digests import digest_of_row
from airflow_chat_provider.batch.input import Row, body_of, row_error
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.core.request.attachments import MAX_BYTES, NO_ATTACHMENTS, Attachments
from airflow_chat_provider.task.attachments import located
from airflow_chat_provider.templates.failures import FROM_AIRFLOW
from airflow_chat_provider.transport.session import acall_for, prepared

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.call.steps import Call
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.request.schema import RequestSchema
    from airflow_chat_provider.templates.request_template import RequestTemplate

_SENT_AS_IS = (
    "Rows that hold only custom_id and a body with messages are sent as they are; the task's request is for other rows"
)
_WARNINGS = 20  # different ones; a batch with more of them says nothing new

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Requests:
    """Makes the requests of a batch: from its template, or from a line of a batch file (OpenAI, Together, Mistral)."""

    template: RequestTemplate
    settings: Settings
    schema: RequestSchema | None
    id_key: str
    rows: int
    max_attachment_bytes: int = MAX_BYTES
    dag: DAG | None = None
    _warned: set[str] = field(default_factory=set, init=False)

    @cached_property
    def _seen(self) -> _SeenIds:
        return _SeenIds(self.rows)

    def note_id(self, own_id: str, index: int) -> int | None:
        """Note that the row ``index`` has this id. Returns the index of another row that has it, or None."""
        return self._seen.add(own_id, index)

    def for_row(self, row: Row) -> tuple[dict[str, Any], Attachments]:
        """The row's request as it will be sent, checked, and the files that go out with it; they are not read yet.

        Raises InvalidRequest, which names the row's place.

        Raises Hopeless where a Variable or a Connection is missing, since no row can do without it.
        """
        if row.error is not None:
            raise row.error
        try:
            made = self._made(row)
            files = self._files(row)
            proved, warnings = prepared(files.with_stand_ins(made), self.settings, self.schema)
            self.warn(warnings)
            proved, files = files.noted(proved)
        except InvalidRequest as error:
            if error.keyword in FROM_AIRFLOW:
                raise Hopeless(error) from None
            if error.path != row.place:
                error.reword(f"{row.place}: {error.message}")
            raise
        return proved, located(files, self.dag)

    def _files(self, row: Row) -> Attachments:
        if row.is_request_line:  # it is sent as it is
            return NO_ATTACHMENTS
        return files_of(self.template, row.value, self.max_attachment_bytes)

    async def digest(self, row: Row, request: dict[str, Any], files: Attachments, wanted: Wanted) -> str:
        """The digest of a row's request. Files are looked at in a thread. Raises as ``call`` does."""
        found: list[Any] = []
        if files:
            from airflow_chat_provider.airflow_api.compat import in_thread
            from airflow_chat_provider.transport.attachments import stamps

            with _named(row):
                found = await in_thread(stamps, files)
        return digest_of_row(self.settings.base_url, request, wanted, found)

    async def call(self, row: Row, request: dict[str, Any], files: Attachments) -> Call:
        """The call for a row's request. Files are read now, in a thread.

        Raises InvalidRequest for a file that cannot be attached, and TransportError for one that may be readable later.
        """
        with _named(row):
            return await acall_for(request, self.settings, files)

    def _made(self, row: Row) -> Any:
        lines = row.is_request_line
        own_id = row.own_id("custom_id" if lines else self.id_key)
        other = self.note_id(own_id, row.index) if own_id is not None else None
        if other is not None:
            raise row_error(row.place, f"row {other} (counted from 0) has the same id", "uniqueItems")
        if lines:
            if row.is_bare_line and self.template:
                self.warn([_SENT_AS_IS])
            return self.template.with_model(body_of(row.value, row.place, self.settings.endpoint), row.value)
        if not self.template:
            form = "custom_id and body, or custom_id, method, url and body"
            why = f"the task has no request, so the row must be a line of a batch file ({form})"
            raise row_error(row.place, why, "required")
        request, warnings = self.template.fill(self.schema, row.value)
        self.warn(warnings)
        return request

    def warn(self, warnings: list[str], place: str = "") -> None:
        """Log what is doubtful about requests, or about the answer for the row at ``place``: each warning only once."""
        for warning in warnings:
            kind = getattr(warning, "kind", warning)  # the same for rows whose places differ
            if kind not in self._warned and len(self._warned) < _WARNINGS:
                self._warned.add(kind)
                log.warning("%s%s (logged only once for this batch)", f"Row {place}: " if place else "", warning)


@contextmanager
def _named(row: Row) -> Iterator[None]:
    """Let errors name the row."""
    try:
        yield
    except ChatCompletionError as error:
        error.reword(f"{row.place}: {error.message}")
        raise


class _SeenIds:
    """A table of at most ``count`` ids that were seen already: their 64-bit digests, and the rows that have them.

    It takes 18 bytes for each row of the input; a set of a million texts would take 100 MB. Two different ids get the
    same digest in one of 30 million batches of a million rows.
    """

    def __init__(self, count: int) -> None:
        self._size = max(8, count + count // 2)
        self._digests = array("Q", bytes(8 * self._size))
        self._rows = array("I", bytes(array("I").itemsize * self._size))

    def add(self, own_id: str, row: int) -> int | None:
        """Note the id of a row. Returns the index of another row that has the same id, or None."""
        digest = int.from_bytes(blake2b(own_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()) or 1
        slot = digest % self._size
        while (found := self._digests[slot]) not in (0, digest):
            slot = slot + 1 if slot + 1 < self._size else 0
        if not found:
            self._digests[slot], self._rows[slot] = digest, row
        other = self._rows[slot]
        return other if other != row else None
