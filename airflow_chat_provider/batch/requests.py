"""From a row to the request that is sent for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.batch.input.row import Row, body_of, row_error
from airflow_chat_provider.batch.input.seen_ids import SeenIds
from airflow_chat_provider.batch.pace.caller import Hopeless
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.templates.failures import FROM_AIRFLOW
from airflow_chat_provider.transport.session import prepared

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.request.schema import RequestSchema
    from airflow_chat_provider.templates.request_template import RequestTemplate

_SENT_AS_IS = (
    "Rows that hold only custom_id and a body with messages are sent as they are; the task's request is for other rows"
)
_WARNINGS = 20  # different ones; a batch with more of them says nothing new

log = logging.getLogger(__name__)


class Requests:
    """Makes the requests of a batch: from its template, or from a line of a batch file (OpenAI, Together, Mistral)."""

    def __init__(
        self, template: RequestTemplate, settings: Settings, schema: RequestSchema | None, id_key: str, rows: int
    ) -> None:
        self._template = template
        self._settings = settings
        self._schema = schema
        self._id_key = id_key
        self._rows = rows
        self._seen: SeenIds | None = None
        self._warned: set[str] = set()

    def note_id(self, own_id: str, index: int) -> int | None:
        """Note that the row ``index`` has this id. Returns the index of another row that has it, or None."""
        if self._seen is None:
            self._seen = SeenIds(self._rows)
        return self._seen.add(own_id, index)

    def for_row(self, row: Row) -> dict[str, Any]:
        """The row's request as it will be sent, checked. Raises InvalidRequest, which names the row's place.

        Raises Hopeless where a Variable or a Connection is missing, since no row can do without it.
        """
        if row.error is not None:
            raise row.error
        try:
            return self._checked(self._made(row))
        except InvalidRequest as error:
            if error.keyword in FROM_AIRFLOW:
                raise Hopeless(error) from None
            if error.path != row.place:
                error.reword(f"{row.place}: {error.message}")
            raise

    def _made(self, row: Row) -> Any:
        lines = row.is_request_line
        own_id = row.own_id("custom_id" if lines else self._id_key)
        other = self.note_id(own_id, row.index) if own_id is not None else None
        if other is not None:
            raise row_error(row.place, f"row {other} (counted from 0) has the same id", "uniqueItems")
        if lines:
            if row.is_bare_line and self._template:
                self._warn([_SENT_AS_IS])
            return self._template.with_model(body_of(row.value, row.place, self._settings.endpoint), row.value)
        if not self._template:
            form = "custom_id and body, or custom_id, method, url and body"
            why = f"the task has no request, so the row must be a line of a batch file ({form})"
            raise row_error(row.place, why, "required")
        request, warnings = self._template.fill(self._schema, row.value)
        self._warn(warnings)
        return request

    def _checked(self, request: Any) -> dict[str, Any]:
        proved, warnings = prepared(request, self._settings, self._schema)
        self._warn(warnings)
        return proved

    def _warn(self, warnings: list[str]) -> None:
        for warning in warnings:
            kind = getattr(warning, "kind", warning)  # the same for rows whose places differ
            if kind not in self._warned and len(self._warned) < _WARNINGS:
                self._warned.add(kind)
                log.warning("%s (logged only once for this batch)", warning)
