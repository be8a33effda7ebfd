"""What the errors of a batch say: the columns there are, the place in the row, and why most rows failed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from airflow_chat_provider.testing import replies
from tests.support.batching import Batch, prompt_of


def message(batch: Batch, **arguments: Any) -> str:
    """What the batch fails with."""
    return batch.error(**arguments).message


@pytest.mark.parametrize(
    "template",
    [
        "{{ row.titel }}",
        "say {{ row.titel }} now",
        "{{ row['titel'] | upper }}",
        "{{ row.titel.x }}",
        "{% if row.titel %}a{% endif %}",
        "{{ row.other | default('') }}{{ row.titel }}",
    ],
)
def test_a_wrong_column_names_the_columns_there_are(batch: Batch, template: str) -> None:
    batch.write({"text": "secret text", "title": "secret title"})
    told = message(batch, prompt=template)
    assert told.startswith(
        "Correct the template: prompt: the row has no column 'titel' (did you mean 'title'?); it has 'text', 'title'"
    )
    assert "secret" not in told


def test_a_column_that_may_be_missing_is_no_mistake(batch: Batch) -> None:
    batch.write({"text": "a"})
    batch.run(prompt="{{ row.text }}{{ row.more | default(' and none') }}{% if row.x is defined %}x{% endif %}")
    assert batch.asked == ["a and none"]


def test_a_name_that_comes_from_a_value_is_not_quoted(batch: Batch) -> None:
    batch.write({"key": "secret", "text": "a"})
    assert "secret" not in message(batch, prompt="{{ row[row.key] }}")


def test_of_many_columns_only_some_are_named(batch: Batch) -> None:
    batch.write({f"column_{number}" + "x" * 100: 1 for number in range(1000)})
    told = message(batch, prompt="{{ row.text }}")
    assert " and 980 more" in told
    assert len(told) < 2000


def test_a_missing_member_of_a_column_is_no_missing_column(batch: Batch) -> None:
    batch.write({"text": {"a": 1}})
    assert "'dict object' has no attribute 'b'" in message(batch, prompt="{{ row.text.b }}")


@pytest.mark.parametrize("template", ["{{ text }}", "{{ rwo.text }}"])
def test_a_name_without_row_says_where_columns_are_found(batch: Batch, template: str) -> None:
    batch.texts(1)
    assert "is undefined (a column of the row is {{ row.NAME }})" in message(batch, prompt=template)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": "a" "b": 1}', "Correct rows.jsonl:2:14: it is not JSON: Expecting ',' delimiter"),
        ("{'text': 'a'}", "Correct rows.jsonl:2:2: it is not JSON: Expecting property name enclosed in double quotes"),
        ("[1]", "Correct rows.jsonl:2: a row must be an object, not a list"),
    ],
)
def test_a_row_that_is_not_json_names_its_line_and_column(batch: Batch, line: str, told: str) -> None:
    batch.write({"text": "a"}, line, {"text": "b"})
    batch.run(max_failures=1)
    assert batch.errors[0]["error"]["message"] == told


def test_a_json_list_as_input_is_told_as_one(batch: Batch) -> None:
    batch.input.write_text('[\n{"text": "a"},\n{"text": "b"}\n]\n')
    assert message(batch).startswith("Correct rows.jsonl:1:1: a JSON list begins here; put each object on a line")


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ("3,4,5", "3:5"),
        ("3,4,5,6", "3:5"),
        ('"a,b","c ""d"", e",5', "3:20"),
        ('3" pipe,4,5', "3:11"),
        ('"3\n4",\'5,6', "4:7"),
        ("3", "3:2"),
        ('"3\n4"', "4:3"),
    ],
)
def test_a_record_with_another_number_of_cells_names_where_the_first_is_too_much_or_missing(
    batch: Batch, tmp_path: Path, record: str, place: str
) -> None:
    (tmp_path / "rows.csv").write_text(f"text,b\n1,2\n{record}\n5,6\n")
    batch.run(input=str(tmp_path / "rows.csv"), max_failures=1)
    (error,) = batch.errors
    assert error["error"]["message"].startswith(f"Correct rows.csv:{place}: the row has ")
    assert batch.asked == ["1", "5"]


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("latin-1", "Correct rows.csv:2:4: this is not UTF-8; save the file as UTF-8"),
        ("utf-16", "Correct rows.csv:1:1: it is UTF-16; save it as UTF-8"),
    ],
)
def test_a_file_in_another_encoding_names_the_first_place_that_shows_it(
    batch: Batch, tmp_path: Path, encoding: str, told: str
) -> None:
    (tmp_path / "rows.csv").write_bytes("text,b\n1,cä\n".encode(encoding))
    assert message(batch, input=str(tmp_path / "rows.csv")).startswith(told)


def test_the_column_counts_characters_behind_a_byte_order_mark(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("\ufeffä,b".encode() + b"\xff\n1,2\n")
    assert message(batch, input=str(tmp_path / "rows.csv")).startswith("Correct rows.csv:1:4: ")


def test_a_table_with_semicolons_is_a_warning(batch: Batch, tmp_path: Path, log: Any) -> None:
    (tmp_path / "rows.csv").write_text("text;b\n1;2\n")
    message(batch, input=str(tmp_path / "rows.csv"))
    (line,) = log.lines("with commas")
    assert "'text;b'" in line


def test_the_final_error_begins_with_the_reason_of_most_failures(batch: Batch) -> None:
    batch.texts(10)

    def answer(asked: Any) -> Any:
        if prompt_of(asked) in ("row 0", "row 1"):
            return replies.error(422, "an odd one", code="odd")
        return replies.error(400, "the prompt has no end", code="endless")

    batch.chat.default = answer
    told = message(batch, max_failures=5, max_concurrency=1)
    reason = "Correct the request (HTTP 400, endless): the prompt has no end"
    assert told.startswith(f"{reason} (rows.jsonl:3 and 3 more like it). 6 of 10 rows failed (max_failures 5): ")
    assert "StatusError 400: 4, StatusError 422: 2" in told
    assert str(batch.output / "errors.jsonl") in told
    assert reason in told[:100]


def test_another_try_is_not_advised_if_as_many_rows_would_fail_again(batch: Batch) -> None:
    batch.texts(3)
    batch.chat.default = replies.error(400, "no")
    error = batch.error(max_failures=0, max_concurrency=1)
    assert error.message.endswith(f"StatusError 400: 1. See {batch.output / 'errors.jsonl'}")
    assert error.final


def test_another_try_is_advised_if_it_may_help(batch: Batch) -> None:
    batch.texts(3)
    batch.chat.script(replies.error(400, "no"))
    batch.chat.default = replies.error(500, "out of order")
    error = batch.error(max_failures=1, max_concurrency=1)
    assert error.message.endswith("Another try asks only for the rows that failed or are missing")
    assert not error.final


def test_the_final_error_quotes_no_prompt_and_no_answer(batch: Batch) -> None:
    batch.write({"text": "a canary prompt that is long enough"})
    batch.chat.default = replies.error(400, "you said: a canary prompt that is long enough")
    assert "canary" not in message(batch)
    batch.chat.default = replies.ok("a canary answer")
    assert "canary" not in message(batch, output=f"{batch.output}-2", result_format="json")


def test_errors_of_very_many_codes_take_bounded_room(batch: Batch) -> None:
    batch.texts(300)
    numbers = itertools.count()
    batch.chat.default = lambda asked: replies.error(400, "no", code=f"code_{next(numbers)}")
    assert "and 199 more like it" in message(batch, max_failures=299)
