"""What a vendor's batch API can do wrong: one clear error, or one row's; nothing that was paid for is lost."""

import json

import pytest

from airflow_chat_provider.errors import StatusError
from airflow_chat_provider.testing import BatchEnd, CallFault, batch_faults, replies
from tests.support.vendor import spent


def texts(bulk):
    return {line["index"]: line["response"] for line in bulk.results}


@pytest.fixture
def rows(bulk):
    bulk.texts(6)
    return bulk


def test_answers_in_another_order_go_to_their_rows(rows):
    rows.vendor.script(batch_faults.shuffled())
    assert rows.run()["succeeded"] == 6
    assert texts(rows) == {index: f"row {index}" for index in range(6)}


def test_an_answer_with_an_id_that_nobody_sent_is_passed_over(rows, log):
    rows.vendor.script(batch_faults.strange_id())
    error = rows.error()
    assert "no answer for 1 row" in error.message
    assert "1 line with an id that none of its rows has" in log.text
    assert rows.run()["succeeded"] == 6
    assert rows.vendor.batches[1].total == 1


def test_of_two_answers_for_a_row_the_first_counts(rows, log):
    rows.vendor.script(batch_faults.same_id_twice())
    manifest = rows.run()
    assert (manifest["succeeded"], manifest["usage"]["requests"]) == (6, 6)
    assert "the first one counts" in log.text


def test_rows_that_are_missing_are_asked_for_by_the_next_try(rows):
    rows.vendor.script(batch_faults.rows_missing(2))
    error = rows.error()
    assert not error.final
    assert len(rows.results) == 4
    assert rows.run()["succeeded"] == 6
    assert [batch.total for batch in rows.vendor.batches] == [6, 2]


def test_a_line_that_is_not_json_is_passed_over(rows, log):
    rows.vendor.script(batch_faults.not_json())
    rows.error()
    assert "1 line that cannot be read" in log.text
    assert rows.run()["succeeded"] == 6


def test_a_file_that_breaks_off_is_fetched_again(rows):
    rows.vendor.script(batch_faults.output_cut())
    assert rows.run(max_attempts=2)["succeeded"] == 6
    assert len(rows.vendor.batches) == 1


def test_what_came_of_a_file_that_always_breaks_off_is_kept_and_the_next_try_fetches_the_rest(rows):
    rows.vendor.script(batch_faults.output_cut(2))
    error = rows.error(max_attempts=2)
    assert "breaks off" in error.message
    assert 0 < len(rows.results) < 6
    manifest = rows.run()
    assert manifest["succeeded"] == 6
    assert len(rows.vendor.batches) == 1
    assert spent(manifest) == rows.vendor.tokens


def test_a_file_that_itself_ends_in_half_a_line_costs_that_row_alone(rows):
    rows.vendor.script(batch_faults.output_short())
    rows.error(max_attempts=2)
    assert len(rows.results) == 5
    assert rows.run()["succeeded"] == 6
    assert [batch.total for batch in rows.vendor.batches] == [6, 1]


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_a_batch_answered_before_it_ended_early_is_kept_and_the_next_try_asks_the_rest(rows, end):
    rows.vendor.script(getattr(batch_faults, end)(2))
    error = rows.error()
    assert end in error.message
    assert not error.final
    assert texts(rows) == {0: "row 0", 1: "row 1"}
    assert {line["error"]["code"] for line in rows.errors} == {f"batch_{end}"}
    manifest = rows.run()
    assert manifest["succeeded"] == 6
    assert spent(manifest) == rows.vendor.tokens
    assert [batch.total for batch in rows.vendor.batches] == [6, 4]


def test_calls_may_finish_what_the_batch_api_left(rows):
    rows.vendor.script(batch_faults.expired(2))
    rows.error()
    manifest = rows.run(via="calls")
    assert manifest["succeeded"] == 6
    assert manifest["usage"]["requests"] == 6


def test_a_file_that_is_refused_ends_the_task_with_the_reason(rows):
    rows.vendor.script(batch_faults.failed("model_not_found", "No such model."))
    error = rows.error()
    assert "model_not_found: No such model." in error.message
    assert error.final
    assert rows.run()["succeeded"] == 6


def test_a_batch_that_is_gone_is_not_paid_for_again_by_itself(rows):
    rows.vendor.script(batch_faults.deleted(2))
    error = rows.error()
    assert error.final
    assert "Find out what became of batch" in error.message
    assert "remove order 1 from 'jobs'" in error.message
    rows.vendor.script(batch_faults.deleted(1))
    rows.error()
    assert len(rows.vendor.batches) == 1
    identity = rows.identity
    (rows.output / "batch.json").write_text(json.dumps({**identity, "jobs": []}), "utf-8")
    assert rows.run()["succeeded"] == 6
    assert len(rows.vendor.batches) == 2


def test_a_key_without_the_right_to_batches_is_told_so(rows):
    rows.vendor.script(batch_faults.no_right())
    error = rows.error()
    assert isinstance(error, StatusError)
    assert error.message.startswith("Use a key that may upload files and start batches (HTTP 403), or via='calls'")
    assert error.final
    assert not rows.vendor.batches


def test_a_server_without_a_batch_api_is_told_so(bulk, chat):
    chat.default = replies.error(404, "Not Found")
    bulk.texts(2)
    error = bulk.error()
    assert error.message.startswith("Use via='calls' (HTTP 404 for /files)")


def test_a_lost_upload_is_repeated(rows):
    rows.vendor.script(batch_faults.upload_lost())
    assert rows.run(max_attempts=2)["succeeded"] == 6
    assert len(rows.vendor.batches) == 1


def test_a_start_whose_answer_is_lost_is_looked_up_before_it_is_repeated(rows):
    rows.vendor.script(batch_faults.start_lost())
    assert rows.run()["succeeded"] == 6
    assert len(rows.vendor.batches) == 1


def test_a_lost_start_at_a_vendor_without_a_list_is_for_a_human_to_decide(rows):
    rows.vendor.script(batch_faults.start_lost(), batch_faults.no_list())
    error = rows.error()
    assert error.final
    assert "Find out from the vendor whether a batch with the file" in error.message
    (job,) = rows.jobs
    assert job["state"] == "starting"
    rows.error()
    assert len(rows.vendor.batches) == 1
    job |= {"state": "started", "batch": rows.vendor.batches[0].id}
    (rows.output / "batch.json").write_text(json.dumps({**rows.identity, "jobs": [job]}), "utf-8")
    assert rows.run()["succeeded"] == 6
    assert len(rows.vendor.batches) == 1


@pytest.mark.parametrize("limit", ["busy", "token_limit"])
def test_a_vendor_that_has_no_room_is_waited_for(rows, limit):
    rows.vendor.script(getattr(batch_faults, limit)())
    assert rows.run()["succeeded"] == 6
    assert rows.waits >= 2


def test_a_server_that_is_out_of_order_while_it_is_watched_is_waited_out(rows):
    rows.vendor.script(batch_faults.out_of_order(3))
    assert rows.run()["succeeded"] == 6
    assert len(rows.vendor.batches) == 1


def test_a_key_that_a_refusal_quotes_is_not_shown(rows, log):
    key = rows.vendor.connection["password"]
    rows.vendor.script(batch_faults.failed("invalid_key", f"The key {key} is out of order."))
    assert "invalid_key: The key *** is out of order." in rows.error().message
    assert key not in log.text
    assert key not in json.dumps(rows.identity)


def test_a_prompt_that_a_refusal_quotes_is_not_shown(bulk, log):
    bulk.write({"text": "a canary prompt that nobody may see"})
    bulk.vendor.script(batch_faults.failed("bad_prompt", "Not allowed: 'a canary prompt that nobody may see'."))
    assert "bad_prompt: Not allowed: '***'." in bulk.error().message
    assert "canary" not in log.text
    assert "canary" not in json.dumps(bulk.identity)


def test_a_file_that_is_refused_while_another_one_is_under_way_ends_the_task_once_that_has_ended(bulk, monkeypatch):
    monkeypatch.setattr("airflow_chat_provider.batch.vendor.cutting.MOST_REQUESTS", 3)
    bulk.texts(6)
    bulk.vendor.polls = 3
    bulk.vendor.script(BatchEnd(), batch_faults.failed("model_not_found", "No such model."))
    error = bulk.error()
    assert "model_not_found: No such model." in error.message
    assert error.final
    assert len(bulk.results) == 3


def test_a_start_that_is_refused_while_another_order_is_under_way_is_the_error_of_the_try(bulk, monkeypatch):
    monkeypatch.setattr("airflow_chat_provider.batch.vendor.cutting.MOST_REQUESTS", 3)
    bulk.texts(6)

    def refuse(reply):
        return replies.error(400, "no more batches") if len(bulk.vendor.batches) > 1 else reply

    bulk.vendor.script(CallFault("POST", "/batches", refuse, None))
    error = bulk.error()
    assert "no more batches" in error.message
    assert error.final
    assert len(bulk.results) == 3
