"""Rows that go through a vendor's batch API."""

from airflow_chat_provider.batch.vendor import cutting


def test_each_row_gets_its_answer(bulk):
    bulk.texts(5)
    manifest = bulk.run()
    assert (manifest["succeeded"], manifest["failed"], manifest["missing"]) == (5, {}, 0)
    assert [line["response"] for line in bulk.results] == [f"row {index}" for index in range(5)]
    assert [line["index"] for line in bulk.results] == list(range(5))
    (batch,) = bulk.vendor.batches
    assert (batch.endpoint, batch.completion_window) == ("/v1/chat/completions", "24h")
    assert bulk.waits == 1
    assert bulk.pushed["usage"]["requests"] == 5


def test_a_worker_may_wait_itself(bulk):
    bulk.texts(3)
    assert bulk.run(deferrable=False)["succeeded"] == 3
    assert bulk.waits == 0


def test_rows_are_cut_into_orders(bulk, monkeypatch):
    monkeypatch.setattr(cutting, "MOST_REQUESTS", 3)
    bulk.texts(7)
    assert bulk.run()["succeeded"] == 7
    assert [batch.total for batch in bulk.vendor.batches] == [3, 3, 1]
    assert [job["state"] for job in bulk.jobs] == ["fetched"] * 3
    assert bulk.sent == sorted(f"row-{index}" for index in range(7))
