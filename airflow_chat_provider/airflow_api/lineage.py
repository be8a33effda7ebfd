"""Airflow's own lineage: which files a task reads and writes, and the events of the assets that it makes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.airflow_api.compat import alias_events_hold_objects, hook_lineage_collector
from airflow_chat_provider.core.request.attachments import shown

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

log = logging.getLogger(__name__)


def uri_of(path: object) -> str:
    """The URI by which ObjectStoragePath tells of a file, without a password and a query, which may be a signature."""
    text = str(path)
    if "://" not in text:
        return f"file://{Path(text).absolute()}"
    return shown(text).replace("://***@", "://", 1)


def note_inputs(reader: object, uris: Iterable[str]) -> None:
    """Tell whoever collects lineage that ``reader`` reads these files."""
    _note(reader, "add_input_asset", uris)


def note_outputs(writer: object, uris: Iterable[str]) -> None:
    """Tell whoever collects lineage that ``writer`` has written these files."""
    _note(writer, "add_output_asset", uris)


def _note(worker: object, method: str, uris: Iterable[str]) -> None:
    """Never raises: lineage is no reason for a task to fail."""
    try:
        for uri in uris:
            getattr(hook_lineage_collector(), method)(context=worker, uri=uri)
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("The lineage of this task lacks files: Airflow does not take them (%s)", type(error).__name__)


def tell_outlets(task: BaseOperator, context: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """Put ``told`` into the ``extra`` of the events of the task's outlets, under the keys that are not taken.

    An alias has only the events that were added to it; ``outlet_events[alias].extra`` is for who adds one later. Never
    raises.
    """
    events: Any = context.get("outlet_events")
    if not task.outlets or events is None:  # no task is running
        return
    from airflow.sdk import AssetAlias

    for outlet in task.outlets:
        try:
            accessor = events[outlet]
            if isinstance(outlet, AssetAlias) and not alias_events_hold_objects():
                continue
            for one in (accessor, *accessor.asset_alias_events):
                for key, value in told.items():
                    one.extra.setdefault(key, value)
        except Exception as error:  # noqa: BLE001 - an outlet that is no asset, or whatever a user put into extra
            log.debug("The event of an outlet is told nothing (%s)", type(error).__name__)
