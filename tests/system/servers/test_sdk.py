"""What the official SDK says of the servers' own bytes. The first line of a docstring is the row in the table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import sdk
from tests.system.servers.asking import At
from tests.system.servers.served import WEATHER
from tests.system.servers.test_features import ALMOST_THE_SAME, CALL_WEATHER, WEATHER_TOOL

REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "n": {"n": 2, "temperature": ALMOST_THE_SAME},
    "logprobs": {"logprobs": True, "top_logprobs": 2, "max_tokens": 4},
    "tools": {"tools": [WEATHER_TOOL], "tool_choice": CALL_WEATHER, "max_tokens": 64},
}


def body_of(at: At, name: str) -> dict[str, Any]:
    return at.body(WEATHER, **REQUESTS[name]) if name == "tools" else at.body(**REQUESTS[name])


def test_types(at: At):
    """The SDK's types take what tasks hand on"""
    said = []
    for name in REQUESTS:
        body = body_of(at, name)
        assert sdk.refused_request(body) == []
        whole, events = at.direct(body), at.direct({**body, "stream": True})
        if not whole.ok:
            continue
        done = at.succeed(body)
        own = sdk.refused(whole.json)
        assert sdk.refused(done.body) == own  # what came unstreamed is handed on as it came
        if own:
            said.append(f"{name}: {', '.join(own)}")
        if not events.ok:
            continue
        refused = set(sdk.refused(sdk.assembled(events.chunks, 2))) - set(own)
        assert _not_in(events.chunks, refused) == set(), refused
    at.yes(f"but for what the server itself deviates in ({'; '.join(said)})" if said else "")


def _not_in(chunks: list[Any], refused: set[str]) -> set[str]:
    """The places that the server's own chunks do not lack: what never came cannot be handed on."""
    return {place for place in refused if any(_holds(chunk, place.split(".")) for chunk in chunks)}


def _holds(value: Any, place: list[str]) -> bool:
    if not place:
        return value is not None
    name, *rest = place
    if isinstance(value, list):  # of choices or calls, each of which names its index
        return any(_holds(item, rest) for item in value if str(item.get("index", name)) == name)
    return isinstance(value, dict) and _holds(value.get("delta" if name == "message" else name), rest)


@pytest.mark.parametrize("name", REQUESTS)
def test_accumulator(at: At, name: str):
    """The SDK's accumulator makes the same of its streams"""
    body = {**body_of(at, name), "stream": True}
    direct = at.direct(body)
    if not direct.ok:
        at.no(direct.words)
        return
    ours = sdk.essence(sdk.assembled(direct.chunks, 2))
    try:
        theirs = sdk.essence(sdk.accumulated(direct.chunks))
    except Exception as error:  # noqa: BLE001 - whatever it breaks with
        at.no(f"the SDK's own breaks on it: {type(error).__name__}: {error}")
        return
    # Its role is what the chunks say, joined: none where they name none, and "assistantassistant" where each does.
    for choice, other in zip(ours["choices"], theirs["choices"], strict=True):
        other["role"] = choice["role"]
    assert ours == theirs
    at.yes()
