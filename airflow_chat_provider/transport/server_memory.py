"""Dialogues as this process begins them: with what it has learnt of each server, and what there is to warn of."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.answer.dialogue import RUNGS, Dialogue, Wanted
from airflow_chat_provider.core.answer.output_schema import load_output
from airflow_chat_provider.templates.dag_templates import dag_of, opened

if TYPE_CHECKING:
    from airflow_chat_provider.core.connection.settings import Settings

log = logging.getLogger(__name__)
# Where to begin on RUNGS, by base URL and model: for every schema (None) where the server refused a form, and for one
# schema (its digest) where it refused that schema. So a process asks in vain once.
_RUNGS: dict[tuple[str, Any, str | None], int] = {}
_MOST = 1000  # schemas may be made by templates


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
    keys = _keys(settings.base_url, request.get("model"), want)
    return Dialogue(request, want, max(_RUNGS.get(key, 0) for key in keys))


def _keys(base_url: str, model: Any, want: Wanted) -> tuple[tuple[str, Any, str | None], ...]:
    """The key for every schema, and the one for the schema that is wanted."""
    any_schema = (base_url, model, None)
    return (any_schema, (base_url, model, want.schema.digest)) if want.schema is not None else (any_schema,)


def learn(dialogue: Dialogue, base_url: str) -> None:
    """Remember what the server refused, for as long as this process lives; one schema's refusal weakens no other's."""
    if not dialogue.stepped_down:
        return
    model, schema = dialogue.question.get("model"), dialogue.wanted.schema
    any_schema, this_schema = _keys(base_url, model, dialogue.wanted)
    if len(_RUNGS) >= _MOST:
        _RUNGS.clear()
    known = _RUNGS.get(any_schema, 0)
    forms = dialogue.by_form if dialogue.began <= known else 0
    if forms > known:
        _RUNGS[any_schema] = known = forms
        refused = " and ".join(RUNGS[:forms])
        log.warning("%s refuses %s for model %s: it is asked with %s", base_url, refused, model, RUNGS[forms])
    if schema is not None and dialogue.rung > max(known, _RUNGS.get(this_schema, 0)):
        _RUNGS[this_schema] = dialogue.rung
        refused = " and ".join(RUNGS[max(known, dialogue.began) : dialogue.rung])
        log.warning(
            "%s refuses the response_schema %s as %s for model %s: it is asked with %s",
            *(base_url, schema.name, refused, model, RUNGS[dialogue.rung]),
        )
