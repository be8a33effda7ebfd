"""Seeded chance: damage of any kind between tries, and replies of any form."""

import json
import random

import pytest

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.testing import replies
from tests.support.fuzzing import TIMES

FILES = ("results.jsonl", "errors.jsonl", "manifest.json", "owner.json", ".reserve")
NAMES = (
    "choices",
    "message",
    "content",
    "finish_reason",
    "tool_calls",
    "usage",
    "total_tokens",
    "error",
    "refusal",
    "id",
)

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def damage(content, chance):
    """A few bytes lost, zeroed, doubled or changed, or a line broken."""
    for _ in range(chance.randint(0, 4)):
        if not content:
            return
        start = chance.randrange(len(content))
        end = min(len(content), start + chance.randint(1, 200))
        new: bytes = chance.choice(
            [b"", bytes(end - start), bytes(content[start:end]) * 2, b"\n", chance.randbytes(end - start)]
        )
        content[start:end] = new


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12 * TIMES))
def test_whatever_is_damaged_between_two_tries_the_next_ends_with_a_line_for_each_row(batch, seed):
    chance = random.Random(seed)
    batch.texts(12)
    batch.chat.default = lambda request: chance.choice([replies.ok(), replies.error(400, "no"), replies.ok("x" * 500)])
    batch.run(max_failures=None)
    for _ in range(4):
        for path in filter(lambda path: path.name in FILES and chance.random() < 0.6, list(batch.output.iterdir())):
            content = bytearray(path.read_bytes())
            damage(content, chance)
            path.write_bytes(bytes(content))
        found = ended(batch)
        if isinstance(found, InvalidRequest):  # an index became another
            assert "move such lines out" in found.message
            return
        assert found["succeeded"] + sum(found["failed"].values()) == 12


def ended(batch):
    """The manifest of another try, or why nothing was sent."""
    try:
        return batch.run(max_failures=None)
    except InvalidRequest as error:
        return error


def anything(chance, depth=0):
    kind = chance.randint(0, 9 if depth < 5 else 5)
    if kind < 6:
        numbers = [0, -1, 11, 1.5, 10**15, 10**400, -(10**400), True, float("nan"), float("inf")]
        return chance.choice([None, *numbers, "", "text", '{"good": 1}', "\ud83d", "\x00"])
    if kind < 8:
        return [anything(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    return {chance.choice(NAMES): anything(chance, depth + 1) for _ in range(chance.randint(0, 5))}


def reply(chance):
    """A body that is often nearly a completion."""
    body = replies.completion() if chance.random() < 0.8 else anything(chance)
    if isinstance(body, dict):
        for _ in range(chance.randint(0, 2)):
            body[chance.choice(NAMES)] = anything(chance)
        if chance.random() < 0.5:
            message = {"role": "assistant", chance.choice(NAMES): anything(chance), "content": anything(chance)}
            body["choices"] = [{"index": 0, "message": message, "finish_reason": anything(chance)}]
    return replies.Reply(
        chance.choice([200, 200, 200, 200, 201, 400, 500]),
        {"content-type": "application/json"},
        json.dumps(body).encode(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("result_format", ["raw", "message", "text", "json", "tool_calls"])
@pytest.mark.parametrize("seed", range(4 * TIMES))
def test_whatever_a_server_answers_each_row_has_a_line_and_the_batch_goes_on(batch, seed, result_format):
    chance = random.Random(seed)
    batch.texts(150)
    batch.chat.default = lambda request: reply(chance)
    given = {"result_format": result_format, "max_failures": None, "request": {"tools": [TOOL]}}
    given["response_schema"] = {"type": "object"} if seed % 2 else None
    manifest = batch.run(**given)
    assert manifest["missing"] == 0
    assert sorted(line["index"] for line in batch.results + batch.errors) == list(range(150))
    batch.chat.default = replies.ok("{}", tool_calls=[CALL])
    assert batch.run(**given)["succeeded"] == 150
