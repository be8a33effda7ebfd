"""Damaged output of earlier runs: what is paid for counts, what cannot be read is told and asked for again."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_chat_provider.batch.output.lines import Foreign, read_line
from airflow_chat_provider.core.answer.usage import counted
from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.testing import replies
from tests.support.batching import prompt_of

DAMAGE = {
    "a cut-off part": b'{"index":1,"id":"row-1","row":{"text":"row 1"},"resp\n',
    "NULs": b"\0" * 4096 + b"\n",
    "an empty line": b"\n",
    "bytes that are no text": b"\xff\xfe\x00\n",
    "JSON that is no object": b"17\n",
    "brackets without an end": b"[" * 100_000 + b"\n",
}


def read_back(batch):
    """What stands in the results, but for what is no line."""
    found = []
    for line in (batch.output / "results.jsonl").read_bytes().split(b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value["index"])
    return sorted(found)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_damaged_line_is_skipped_with_a_warning_and_its_row_is_sent_again(batch, damage, where, caplog):
    batch.texts(3)
    batch.run(max_concurrency=1)
    file = batch.output / "results.jsonl"
    kept = file.read_bytes().splitlines(keepends=True)
    lost = json.loads(kept[where])["row"]["text"]
    file.write_bytes(b"".join([*kept[:where], damage, *kept[where + 1 :]]))
    manifest = batch.run()
    assert (manifest["succeeded"], manifest["failed"]) == (3, {})
    assert {prompt for prompt, count in batch.times.items() if count == 2} == {lost}
    assert read_back(batch) == [0, 1, 2]
    (told,) = [record.getMessage() for record in caplog.records if "damaged lines" in record.getMessage()]
    assert f"{file}:{where + 1}." in told
    assert "row " not in told.replace(str(file), "")


def test_the_warning_counts_many_damaged_lines(batch, caplog):
    batch.texts(1)
    batch.run()
    with (batch.output / "results.jsonl").open("ab") as file:
        file.write(b"\n" * 1000)
    batch.run()
    (told,) = [record.getMessage() for record in caplog.records if "damaged lines" in record.getMessage()]
    assert "results.jsonl:11 and 990 more" in told
    assert len(batch.chat.requests) == 1


def test_a_result_after_nul_bytes_counts(batch):
    batch.texts(3)
    batch.run()
    file = batch.output / "results.jsonl"
    first, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([first, b"\0" * 512, *rest]))
    assert batch.run()["succeeded"] == 3
    assert len(batch.chat.requests) == 3


def test_a_result_that_lacks_only_its_line_break_counts(batch):
    batch.texts(3)
    batch.run()
    file = batch.output / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    assert batch.run()["succeeded"] == 3
    assert len(batch.chat.requests) == 3
    assert [line["index"] for line in batch.results] == [0, 1, 2]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_lines_among_the_errors_are_removed(batch, damage):
    batch.texts(2)
    batch.chat.default = lambda request: replies.error(400, "no") if prompt_of(request) == "row 1" else replies.ok()
    batch.run(max_failures=None)
    with (batch.output / "errors.jsonl").open("ab") as file:
        file.write(damage)
    batch.run(max_failures=None)
    assert [line["index"] for line in batch.errors] == [1]
    assert [line["asked"] for line in batch.errors] == [2]
    batch.chat.default = replies.ok()
    assert batch.run()["succeeded"] == 2
    assert batch.errors == []


@pytest.mark.parametrize("line", [{"their": "own"}, {"index": 2, "id": "row-2"}, {"index": True, "id": "a"}])
def test_a_line_of_another_batch_is_an_error_before_anything_is_sent(batch, line):
    batch.texts(2)
    batch.run()
    file = batch.output / "results.jsonl"
    kept = file.read_bytes()
    file.write_bytes(json.dumps(line).encode() + b"\n" + kept)
    error = batch.error(max_concurrency=1)
    assert isinstance(error, InvalidRequest)
    assert f"({file}:1); move such lines out" in error.message
    file.write_bytes(kept)
    assert batch.run()["succeeded"] == 2
    assert len(batch.chat.requests) == 2


def test_a_foreign_line_added_while_the_batch_runs_stays_in_the_errors(batch):
    def answer(request):
        with (batch.output / "errors.jsonl").open("a") as file:
            file.write('{"their": "own"}\n')
        return replies.ok()

    batch.texts(1)
    batch.chat.script(replies.error(400, "no"))
    batch.run(max_failures=None)
    batch.chat.default = answer
    assert batch.run()["succeeded"] == 1
    assert (batch.output / "errors.jsonl").read_text() == '{"their": "own"}\n'
    assert json.loads((batch.output / "manifest.json").read_text())["succeeded"] == 1


def test_a_line_of_another_shard_is_an_error_before_anything_is_sent(batch):
    batch.texts(4)
    for shard in ("1/2", "2/2"):
        batch.run(shard=shard)
    first, second = (batch.output / f"shard-{n}-of-2" / "results.jsonl" for n in (1, 2))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    error = batch.error(shard="1/2")
    assert f"({first}:3); move such lines out" in error.message
    assert len(batch.chat.requests) == 4


def test_a_row_with_two_results_counts_once_and_its_cost_twice(batch):
    batch.texts(2)
    batch.run()
    file = batch.output / "results.jsonl"
    file.write_bytes(file.read_bytes() * 2)
    manifest = batch.run()
    assert (manifest["succeeded"], manifest["usage"]["total_tokens"]) == (2, 44)
    assert len(batch.chat.requests) == 2


@pytest.mark.parametrize(
    "body", [{"choices": [5]}, {"choices": {"a": 1}}, {"choices": [{"message": None}]}, [], "text", {"usage": [1]}]
)
def test_a_result_that_somebody_changed_does_not_stop_the_batch(batch, body):
    batch.write({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}})
    line = {"index": 0, "id": "batch_req_0", "custom_id": "a", "response": {"body": body}, "error": None}
    batch.error(prompt=None)
    (batch.output / "results.jsonl").write_text(json.dumps(line) + "\n")
    assert batch.run(prompt=None)["succeeded"] == 1


@pytest.mark.parametrize(
    "identity", [b"", b"\0" * 100, b"[]", b"[" * 100_000, b'{"kept_for": "airflow_chat_provider batch"}', b"\xff"]
)
def test_a_damaged_mark_of_the_folder_is_an_error_that_names_it(batch, identity):
    batch.texts(1)
    batch.run()
    (batch.output / "batch.json").write_bytes(identity)
    error = batch.error()
    assert isinstance(error, InvalidRequest)
    assert "batch.json" in error.message
    assert len(batch.results) == 1


BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
NAMES = st.sampled_from(
    ["index", "id", "custom_id", "usage", "error", "asked", "response", "body", "choices", "message", "incomplete"]
)
JSON = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3)


def nested(children):
    return st.lists(children, max_size=3) | st.dictionaries(NAMES, children, max_size=8)


LINE = {"method": "POST", "url": "/v1/chat/completions", "body": BODY}


@settings(deadline=None)
@given(
    st.binary(max_size=200) | st.recursive(JSON, nested, max_leaves=20).map(lambda value: json.dumps(value).encode())
)
def test_reading_any_line_gives_a_record_none_or_foreign(line):
    try:
        recorded = read_line(line)
    except Foreign:
        return
    if recorded is not None:
        assert recorded.index >= 0
        counted(recorded.took.usage)


class TestIds:
    @pytest.mark.parametrize("custom_id", [5, 5.5, [1], {"a": 1}, True, None, ""])
    def test_an_id_that_is_not_text_fails_only_its_row(self, batch, custom_id):
        batch.write({**LINE, "custom_id": custom_id})
        with batch.input.open("a") as file:
            file.write(json.dumps({**LINE, "custom_id": "a"}) + "\n")
        for _ in range(3):
            manifest = batch.run(prompt=None, max_failures=None)
            assert (manifest["succeeded"], manifest["failed"]) == (1, {"InvalidRequest": 1})
            assert [line["custom_id"] for line in batch.errors] == [custom_id]
        assert len(batch.chat.requests) == 1

    def test_a_number_and_its_digits_are_the_same_id(self, batch):
        batch.write({"custom_id": "5", "text": "a"}, {"custom_id": 5, "text": "b"}, {"custom_id": 6, "text": "c"})
        for _ in range(2):
            assert batch.run(max_failures=None)["failed"] == {"InvalidRequest": 1}
            assert "row 0 (counted from 0) has the same id" in batch.errors[0]["error"]["message"]
        assert batch.asked == ["a", "c"]

    def test_an_id_used_twice_in_a_batch_file_fails_its_second_line(self, batch):
        batch.write(*({**LINE, "custom_id": custom_id} for custom_id in ("5", 5)))
        for _ in range(2):
            assert batch.run(prompt=None, max_failures=None)["failed"] == {"InvalidRequest": 1}
        assert len(batch.chat.requests) == 1
