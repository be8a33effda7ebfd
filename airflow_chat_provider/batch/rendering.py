"""The fields of a batch's task once it runs: rendered, but for the templates that look at a row."""

from __future__ import annotations

import logging
from typing import Any

from airflow_chat_provider.task.rendering import RenderedFields

log = logging.getLogger(__name__)


class RenderedRows(RenderedFields):
    """The fields of a batch's task. ``template()`` makes the request of each row."""

    has_rows = True

    def _replacements(self, changed: dict[str, Any]) -> dict[str, Any]:
        for name, value in changed.items():
            if self._template.is_data_like_template(value):
                log.warning(
                    "If this is a template, write it in the DAG: %s was set after rendering, so it is data, and every "
                    "row gets its text unchanged",
                    name,
                )
        return changed
