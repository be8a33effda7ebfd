"""What this process has learnt of the servers that it calls, so that each refusal is met once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

from airflow_chat_provider.core.answer.dialogue import RUNGS, Dialogue, Wanted
from airflow_chat_provider.core.call.exchange import NO_STREAM_OPTIONS

if TYPE_CHECKING:
    from airflow_chat_provider.core.answer.reply import Reply
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.types import JSON, JSONObject

log = logging.getLogger(__name__)
_WITHOUT_STREAM_OPTIONS: set[str] = set()
"""Base URLs whose servers have refused ``stream_options``."""
_Key: TypeAlias = "tuple[str, JSON, str | None]"
_RUNGS: dict[_Key, int] = {}
"""Where a dialogue begins on RUNGS, by base URL and model: under None for every schema, after the server refused a
form; under a schema's digest for that schema alone, after it refused that schema."""
_MOST = 1000  # entries; templates may make a schema for each task


def variants(request: JSONObject, base_url: str) -> list[JSONObject]:
    """The forms in which a request is sent: the first, then the one for a server that refuses the first.

    A stream is asked for its usage too, unless its server is known to refuse that.
    """
    if not request.get("stream") or "stream_options" in request or base_url in _WITHOUT_STREAM_OPTIONS:
        return [request]
    return [{**request, "stream_options": {"include_usage": True}}, request]


def note_refusal(reply: Reply, base_url: str) -> None:
    """Remember that a server refuses ``stream_options``, if the reply shows that."""
    if NO_STREAM_OPTIONS in reply.notes:
        _WITHOUT_STREAM_OPTIONS.add(base_url)


def warn(wanted: Wanted) -> None:
    """Say why no server can hold the model to the schema, if none can."""
    why = wanted.schema.response_format[1] if wanted.schema is not None else None
    if why:
        log.warning("Servers cannot enforce this response_schema, so only the task checks the answers: %s", why)


def begin(request: JSONObject, wanted: Wanted, settings: Settings) -> Dialogue:
    """A dialogue that begins in the form that the server is known to take."""
    if wanted.schema is None:
        return Dialogue(request, wanted)
    keys = _keys(settings.base_url, request.get("model"), wanted.schema.digest)
    return Dialogue(request, wanted, max(_RUNGS.get(key, 0) for key in keys))


def _keys(base_url: str, model: JSON, digest: str) -> tuple[_Key, _Key]:
    """The key for every schema, and the one for this schema."""
    return (base_url, model, None), (base_url, model, digest)


def learn(dialogue: Dialogue, base_url: str) -> None:
    """Remember what the server refused in this dialogue. One schema's refusal weakens no other's."""
    schema = dialogue.wanted.schema
    if not dialogue.stepped_down or schema is None:
        return
    model = dialogue.question.get("model")
    every_schema, this_schema = _keys(base_url, model, schema.digest)
    if len(_RUNGS) >= _MOST:
        _RUNGS.clear()
    known = _RUNGS.get(every_schema, 0)
    forms = dialogue.by_form if dialogue.began <= known else 0
    if forms > known:
        _RUNGS[every_schema] = known = forms
        refused = " and ".join(RUNGS[:forms])
        log.warning("%s refuses %s for model %s: from now on %s is used", base_url, refused, model, RUNGS[forms])
    if dialogue.rung > max(known, _RUNGS.get(this_schema, 0)):
        _RUNGS[this_schema] = dialogue.rung
        refused = " and ".join(RUNGS[max(known, dialogue.began) : dialogue.rung])
        log.warning(
            "%s refuses the response_schema %s as %s for model %s: from now on %s is used for it",
            *(base_url, schema.name, refused, model, RUNGS[dialogue.rung]),
        )
