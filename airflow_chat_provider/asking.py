"""Dialogues as this process begins them: with what it has learnt of each server, and what there is to warn of."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.dialogue import RUNGS, Dialogue, Wanted
from airflow_chat_provider.core.output import load_output
from airflow_chat_provider.schema_files import dag_of, opened

if TYPE_CHECKING:
    from airflow_chat_provider.core.settings import Settings

log = logging.getLogger(__name__)
# Base URL and model of servers that refuse a form of response_format: each is asked once in a process.
_RUNGS: dict[tuple[str, Any], int] = {}


def wanted(task: Any) -> Wanted:
    """What a task's arguments say of its answers."""
    schema = load_output(opened(task.response_schema, dag_of(task), "response_schema"))
    return Wanted(schema, task.result_format == "tool_calls", task.output_retries, task.result_format)


def warn(want: Wanted) -> None:
    """Say why a server cannot hold the model to the schema, where it cannot."""
    why = want.schema.response_format[1] if want.schema is not None else None
    if why:
        log.warning("No server holds strictly to this schema, its answers are checked here: %s", why)


def begin(request: dict[str, Any], want: Wanted, settings: Settings) -> Dialogue:
    """A dialogue, in the form that the server is known to take."""
    return Dialogue(request, want, _RUNGS.get((settings.base_url, request.get("model")), 0))


def learn(dialogue: Dialogue, base_url: str) -> None:
    """Remember what the server refused, for as long as this process lives."""
    key = (base_url, dialogue.question.get("model"))
    if dialogue.stepped_down and _RUNGS.get(key) != dialogue.rung:
        _RUNGS[key] = dialogue.rung
        refused = " and ".join(RUNGS[: dialogue.rung])
        log.warning("%s refuses %s for model %s: it is asked with %s", key[0], refused, key[1], RUNGS[dialogue.rung])
