"""What is wrong with a file is said before the first request; what is wrong with a row stays with the row."""

import gzip
import re

import pytest
from airflow.sdk import DAG

from airflow_chat_provider.errors import InvalidRequest
from airflow_chat_provider.operators import ChatCompletionBatchOperator


def refused(batch, **arguments):
    """Why nothing of a batch was sent."""
    error = batch.error(**arguments)
    assert isinstance(error, InvalidRequest)
    assert batch.chat.requests == []
    return error.message


def refused_again(batch):
    """Why another try sends nothing, and loses nothing of what is there."""
    asked, results = batch.asked, (batch.output / "results.jsonl").read_bytes()
    error = batch.error()
    assert isinstance(error, InvalidRequest)
    assert batch.asked == asked
    assert (batch.output / "results.jsonl").read_bytes() == results
    return error.message


class TestInput:
    def test_a_missing_input_is_refused(self, batch):
        assert re.search(r"Correct input: '.*rows.jsonl' does not exist", refused(batch))

    def test_an_input_that_is_not_utf_8_is_refused(self, batch):
        batch.input.write_bytes(b'{"text": "a"}\n' * 100 + '{"text": "ä"}\n'.encode("latin-1"))
        assert re.match(r"Correct rows.jsonl:101:11: this is not UTF-8; save the file as UTF-8", refused(batch))

    def test_an_input_of_an_unknown_kind_is_refused(self, batch, tmp_path):
        assert "must be the path of a .jsonl or .csv file" in refused(batch, input=str(tmp_path / "rows.xlsx"))

    def test_an_input_that_is_a_folder_is_refused(self, batch):
        batch.input.mkdir()
        assert "Is a directory" in refused(batch)

    def test_an_input_in_a_store_without_a_provider_is_refused(self, batch):
        assert "is the Airflow provider for its scheme installed?" in refused(
            batch, input="nowhere://bucket/rows.jsonl"
        )

    def test_an_input_that_is_not_compressed_as_its_name_says_is_refused(self, batch, tmp_path):
        (tmp_path / "rows.jsonl.gz").write_bytes(b'{"text": "a"}\n')
        assert "cannot be used" in refused(batch, input=str(tmp_path / "rows.jsonl.gz"))
        (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-30])
        assert "is cut off" in refused(batch, input=str(tmp_path / "rows.jsonl.gz"))

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("", "is empty"),
            ("text,text\na,b\n", "two columns named 'text'"),
            ("text,\na,b\n", "a column without a name"),
            ('text\n"a\n', "Correct rows.csv:2:1: it is not valid CSV: unexpected end of data"),
            ('text,b\n1,2\n3,"a"b\n', "Correct rows.csv:3:6: it is not valid CSV"),
            ('text,b\n1,"a\nb"\n3,"a\n5,6\n', "Correct rows.csv:4:3: it is not valid CSV: unexpected end of data"),
        ],
    )
    def test_a_csv_file_that_is_not_a_table_is_refused(self, batch, tmp_path, content, told):
        (tmp_path / "rows.csv").write_text(content)
        assert told in refused(batch, input=str(tmp_path / "rows.csv"))

    def test_a_record_with_too_few_cells_fails_alone(self, batch, tmp_path):
        (tmp_path / "rows.csv").write_text("text,b\n1,2\n3\n5,6\n")
        assert batch.run(input=str(tmp_path / "rows.csv"), max_failures=1)["failed"] == {"InvalidRequest": 1}
        assert batch.errors[0]["error"]["message"] == "Correct rows.csv:3:2: the row has 1 cell, but the header has 2"

    def test_a_byte_order_mark_is_not_part_of_the_first_column(self, batch, tmp_path):
        (tmp_path / "rows.csv").write_text("\ufefftext\na\n", "utf-8")
        batch.run(input=str(tmp_path / "rows.csv"))
        assert batch.asked == ["a"]

    def test_gzip_is_read(self, batch, tmp_path):
        (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}'))
        assert batch.run(input=str(tmp_path / "rows.jsonl.gz"))["succeeded"] == 2

    def test_the_second_of_two_rows_with_one_id_fails_and_is_not_sent(self, batch):
        batch.write({"custom_id": "a", "text": "1"}, {"custom_id": "b", "text": "2"}, {"custom_id": "a", "text": "3"})
        batch.run(max_failures=1, max_concurrency=1)
        assert batch.asked == ["1", "2"]
        assert "rows.jsonl:3: row 0 (counted from 0) has the same id" in batch.errors[0]["error"]["message"]

    def test_a_row_that_breaks_the_schema_is_not_sent_and_names_its_line_and_path(self, batch):
        batch.write({"text": "a", "t": 1}, {"text": "b", "t": 7})
        batch.run(request={"temperature": "{{ row.t }}"}, max_failures=1)
        assert batch.asked == ["a"]
        message = batch.errors[0]["error"]["message"]
        assert "rows.jsonl:2" in message
        assert "$.temperature" in message

    def test_a_row_with_half_a_surrogate_pair_is_not_sent(self, batch):
        batch.write('{"text": "\\ud800"}', {"text": "b"})
        batch.run(max_failures=1)
        assert batch.asked == ["b"]
        assert "surrogate" in batch.errors[0]["error"]["message"]

    def test_a_row_with_a_number_that_is_too_long_or_nested_too_deep_fails_alone(self, batch):
        batch.write('{"text": ' + "9" * 5000 + "}", '{"text": ' + "[" * 100_000 + "}", {"text": "b"})
        assert batch.run(max_failures=2)["failed"] == {"InvalidRequest": 2}


class TestOutput:
    def test_an_output_that_is_a_file_is_refused(self, batch):
        batch.texts(1)
        batch.output.write_text("mine")
        assert "is a file; name a folder" in refused(batch)
        assert batch.output.read_text() == "mine"

    def test_an_output_named_like_a_file_is_refused(self, batch, tmp_path):
        batch.texts(1)
        assert "is the name of a file; name a folder" in refused(batch, output=str(tmp_path / "out.jsonl"))

    def test_an_output_below_a_file_is_refused(self, batch, tmp_path):
        batch.texts(1)
        assert "cannot be used (Not a directory)" in refused(batch, output=str(batch.input / "out"))

    @pytest.mark.parametrize("name", ["results.jsonl", "errors.jsonl", "manifest.json", "batch.json"])
    def test_an_output_with_a_file_of_somebody_else_is_refused(self, batch, name):
        batch.texts(1)
        batch.output.mkdir()
        (batch.output / name).write_text('{"their": "own"}\n')
        assert "name another folder" in refused(batch)
        assert (batch.output / name).read_text() == '{"their": "own"}\n'
        assert len(list(batch.output.iterdir())) == 1

    def test_an_output_with_a_line_of_something_else_is_refused(self, batch):
        batch.texts(2)
        batch.run()
        with (batch.output / "results.jsonl").open("a") as file:
            file.write('{"their": "own"}\n')
        told = refused_again(batch)
        assert "has a line that does not belong to this batch" in told
        assert "results.jsonl:3)" in told

    def test_an_output_that_another_run_uses_is_refused(self, batch, monkeypatch):
        from airflow_chat_provider.batch.output import local

        batch.texts(1)
        monkeypatch.setattr(local, "_LOCK_WAIT", 0.0)
        other = local.LocalStore(batch.output, 1)
        other.open()
        try:
            assert "is in use by another run" in refused(batch)
        finally:
            other.close()

    def test_an_output_that_cannot_be_written_is_refused(self, batch):
        batch.texts(1)
        assert "cannot be used" in refused(batch, output="/sys/out")


class TestArguments:
    """Each is told when the DAG is parsed, and by its name."""

    @pytest.mark.parametrize(
        ("arguments", "path"),
        [
            ({"max_concurrency": 0}, "max_concurrency"),
            ({"max_concurrency": "many"}, "max_concurrency"),
            ({"requests_per_minute": 0}, "requests_per_minute"),
            ({"tokens_per_minute": float("nan")}, "tokens_per_minute"),
            ({"max_failures": "150%"}, "max_failures"),
            ({"max_failures": -1}, "max_failures"),
            ({"max_failures": True}, "max_failures"),
            ({"shard": "0/4"}, "shard"),
            ({"shard": "5/4"}, "shard"),
            ({"shard": "half"}, "shard"),
            ({"part_rows": 0}, "part_rows"),
            ({"part_seconds": 0}, "part_seconds"),
            ({"result_format": "xml"}, "result_format"),
            ({"on_changed": "ignore"}, "on_changed"),
            ({"on_incomplete": "retry"}, "on_incomplete"),
            ({"response_key": "index"}, "response_key"),
            ({"request": {"tempreture": 1}}, "$.tempreture"),
        ],
    )
    def test_a_wrong_argument_breaks_the_import(self, batch, arguments, path):
        with pytest.raises(InvalidRequest) as caught:
            batch.task(**arguments)
        assert caught.value.path == path

    def test_a_wrong_argument_in_partial_breaks_the_import(self):
        with DAG("mapped", schedule=None), pytest.raises(InvalidRequest, match="on_changed"):
            ChatCompletionBatchOperator.partial(task_id="bulk", output="/tmp/out", on_changed="never")

    def test_a_template_is_read_when_the_task_runs(self, batch):
        batch.texts(1)
        task = batch.task(max_concurrency="{{ params.n }}", max_failures="{{ params.f }}", shard="{{ params.s }}")
        task.render_template_fields({"params": {"n": "2", "f": "1%", "s": "1/1"}})
        assert batch.execute(task)["succeeded"] == 1
        task = batch.task(max_concurrency="{{ params.n }}")
        task.render_template_fields({"params": {"n": "none"}})
        with pytest.raises(InvalidRequest, match="max_concurrency"):
            batch.execute(task)

    def test_a_template_that_fails_without_a_row_fails_before_the_first_request(self, batch):
        batch.texts(1)
        task = batch.task(system_prompt="{{ nothing.here }}")
        task.render_template_fields({})
        with pytest.raises(InvalidRequest, match="system_prompt"):
            batch.execute(task)
        assert batch.chat.requests == []

    def test_more_calls_at_once_than_the_system_allows_sockets_are_refused(self, batch, monkeypatch):
        monkeypatch.setattr("resource.getrlimit", lambda what: (64, 1000))
        monkeypatch.setattr("resource.setrlimit", lambda what, limits: None)
        batch.texts(1)
        assert "Lower max_concurrency to 800" in refused(batch, max_concurrency=900)

    def test_rows_without_a_request_in_a_task_without_one_are_not_sent(self, batch):
        batch.texts(1)
        batch.run(prompt=None, max_failures=1)
        assert "the task has no request" in batch.errors[0]["error"]["message"]
