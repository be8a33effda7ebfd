"""The batch server speaks OpenAI's batch API, and goes wrong as it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from airflow_chat_provider.testing import BatchEnd, BatchServer, CallFault, batch_faults, replies

ENDPOINT = "/v1/chat/completions"


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as started:
        yield started


@pytest.fixture
def client(server: BatchServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as opened:
        yield opened


def line(number: int, text: str = "", **changes: Any) -> dict[str, Any]:
    body = {"model": "test-model", "messages": [{"role": "user", "content": text or f"text {number}"}]}
    return {"custom_id": f"row-{number}", "method": "POST", "url": ENDPOINT, "body": body, **changes}


def file_of(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def upload(client: httpx.Client, content: bytes, purpose: str = "batch") -> httpx.Response:
    return client.post("/files", data={"purpose": purpose}, files={"file": ("rows.jsonl", content)})


def start(client: httpx.Client, file_id: str, **changes: Any) -> httpx.Response:
    asked = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h", **changes}
    return client.post("/batches", json=asked)


def started(client: httpx.Client, rows: int = 3, **changes: Any) -> dict[str, Any]:
    """A new batch of so many rows."""
    file_id = upload(client, file_of(*map(line, range(rows)))).json()["id"]
    return dict(start(client, file_id, **changes).json())


def look(client: httpx.Client, batch: dict[str, Any]) -> dict[str, Any]:
    return dict(client.get(f"/batches/{batch['id']}").json())


def ended(client: httpx.Client, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch, once it has ended."""
    while (seen := look(client, batch))["status"] in ("validating", "in_progress", "finalizing", "cancelling"):
        pass
    return seen


def lines_of(client: httpx.Client, file_id: str) -> list[dict[str, Any]]:
    return [json.loads(one) for one in client.get(f"/files/{file_id}/content").text.splitlines()]


def ids_of(client: httpx.Client, file_id: str) -> list[str]:
    return [one["custom_id"] for one in lines_of(client, file_id)]


def test_a_batch_is_answered_row_by_row(server: BatchServer, client: httpx.Client) -> None:
    batch = started(client, metadata={"our": "id"})
    assert (batch["status"], batch["metadata"], batch["output_file_id"]) == ("validating", {"our": "id"}, None)
    assert look(client, batch)["status"] == "in_progress"

    seen = look(client, batch)
    assert seen["status"] == "completed"
    assert seen["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert seen["error_file_id"] is None
    first, *_ = lines_of(client, seen["output_file_id"])
    assert first.keys() == {"id", "custom_id", "response", "error"}
    assert first["response"]["status_code"] == 200
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "text 0"
    assert ids_of(client, seen["output_file_id"]) == ["row-0", "row-1", "row-2"]


def test_the_answers_of_a_test_and_those_that_are_refused_go_to_their_files(
    server: BatchServer, client: httpx.Client
) -> None:
    server.answer = lambda body: (
        replies.error(400, "no") if "1" in body["messages"][0]["content"] else replies.ok("yes")
    )
    seen = ended(client, started(client))
    assert seen["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert ids_of(client, seen["output_file_id"]) == ["row-0", "row-2"]
    (refused,) = lines_of(client, seen["error_file_id"])
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("row-1", 400)
    assert refused["response"]["body"]["error"]["message"] == "no"


@pytest.mark.parametrize("usage", [[1], "many", {"total_tokens": "7"}, {"total_tokens": [7]}], ids=repr)
def test_an_answer_may_have_a_usage_that_is_none(server: BatchServer, client: httpx.Client, usage: Any) -> None:
    server.answer = lambda _body: replies.json_reply(200, replies.completion(usage=usage))
    assert client.post("/chat/completions", json=line(0)["body"]).json()["usage"] == usage
    assert server.tokens == 0


def test_tokens_of_batches_and_of_single_calls_are_counted(server: BatchServer, client: httpx.Client) -> None:
    server.answer = lambda _body: replies.ok(usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7})
    ended(client, started(client))
    client.post("/chat/completions", json=line(1)["body"])
    assert server.tokens == 28


def test_polls_say_how_often_a_batch_is_seen_under_way(server: BatchServer, client: httpx.Client) -> None:
    server.polls = 3
    batch = started(client, rows=4)
    seen = [look(client, batch) for _ in range(5)]
    assert [one["status"] for one in seen] == ["in_progress", "in_progress", "finalizing", "completed", "completed"]
    assert [one["request_counts"]["completed"] for one in seen] == [1, 2, 3, 4, 4]
    assert server.batches[0].polls == 5


def test_a_file_can_be_read_and_deleted(server: BatchServer, client: httpx.Client) -> None:
    content = file_of(line(0))
    stored = upload(client, content).json()
    assert (stored["filename"], stored["bytes"], stored["purpose"]) == ("rows.jsonl", len(content), "batch")
    assert client.get(f"/files/{stored['id']}").json() == stored
    assert client.get(f"/files/{stored['id']}/content").content == content == server.files[stored["id"]].content
    assert client.delete(f"/files/{stored['id']}").json()["deleted"] is True
    assert client.get(f"/files/{stored['id']}").status_code == 404


def test_an_upload_that_is_streamed_is_not_kept_in_memory(server: BatchServer, client: httpx.Client) -> None:
    content = file_of(*(line(number, "x" * 1000) for number in range(3000)))
    form = httpx.Request("POST", server.url, data={"purpose": "batch"}, files={"file": ("a", content)})
    stored = client.post(
        "/files", content=iter([form.read()]), headers={"Content-Type": form.headers["Content-Type"]}
    ).json()
    assert server.files[stored["id"]].content == content
    assert server.requests[0].body == b""


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({}, b"{}", id="not a form"),
        pytest.param({"Content-Type": "multipart/form-data; boundary=x"}, b"", id="empty"),
        pytest.param({"Content-Type": "multipart/form-data; boundary=x"}, b"nothing", id="no boundary"),
        pytest.param(
            {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc',
            id="cut",
        ),
        pytest.param(
            {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
            id="no file",
        ),
    ],
)
def test_an_upload_that_is_no_whole_form_is_refused(client: httpx.Client, headers: dict[str, str], body: bytes) -> None:
    assert client.post("/files", content=body, headers=headers).status_code == 400


def test_an_upload_for_another_purpose_is_refused(client: httpx.Client) -> None:
    assert upload(client, file_of(line(0)), purpose="fine-tune").status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"endpoint": "/v1/embeddings"}, id="endpoint"),
        pytest.param({"completion_window": "soon"}, id="window"),
        pytest.param({"metadata": {"a": 1}}, id="metadata"),
        pytest.param({"input_file_id": None}, id="no file"),
        pytest.param({"input_file_id": "file-nobody"}, id="unknown file"),
    ],
)
def test_a_start_that_the_api_would_refuse_is_refused(client: httpx.Client, changes: dict[str, Any]) -> None:
    file_id = upload(client, file_of(line(0))).json()["id"]
    assert start(client, file_id, **changes).status_code == 400


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"oops\n", "invalid_json_line", id="not JSON"),
        pytest.param(b"", "empty_file", id="empty"),
        pytest.param(file_of({"custom_id": "a"}), "missing_required_parameter", id="fields"),
        pytest.param(file_of(line(1, url="/v1/embeddings")), "mismatched_url", id="url"),
        pytest.param(file_of(line(1), line(1)), "duplicate_custom_id", id="same id"),
        pytest.param(file_of(line(1, body={"messages": []})), "invalid_body", id="body"),
        pytest.param(file_of(line(1, body=line(1)["body"] | {"stream": True})), "invalid_body", id="stream"),
    ],
)
def test_a_file_that_the_api_would_refuse_fails_its_validation(client: httpx.Client, content: bytes, code: str) -> None:
    seen = ended(client, start(client, upload(client, content).json()["id"]).json())
    assert (seen["status"], seen["errors"]["data"][0]["code"]) == ("failed", code)
    assert seen["output_file_id"] is None


def test_batches_are_listed_by_pages_the_newest_first(client: httpx.Client) -> None:
    made = [started(client, rows=1)["id"] for _ in range(3)]
    first = client.get("/batches", params={"limit": 2}).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (made[:0:-1], True)
    second = client.get("/batches", params={"limit": 2, "after": first["last_id"]}).json()
    assert ([one["id"] for one in second["data"]], second["has_more"]) == (made[:1], False)


def test_a_cancelled_batch_keeps_what_it_has_answered(server: BatchServer, client: httpx.Client) -> None:
    server.polls = 3
    batch = started(client, rows=4)
    look(client, batch)
    assert client.post(f"/batches/{batch['id']}/cancel").json()["status"] == "cancelling"
    seen = ended(client, batch)
    assert (seen["status"], seen["request_counts"]) == ("cancelled", {"total": 4, "completed": 1, "failed": 3})
    assert ids_of(client, seen["output_file_id"]) == ["row-0"]
    assert {one["error"]["code"] for one in lines_of(client, seen["error_file_id"])} == {"batch_cancelled"}
    assert client.post(f"/batches/{batch['id']}/cancel").status_code == 409


def test_a_batch_expires_after_some_rows(server: BatchServer, client: httpx.Client) -> None:
    server.script(batch_faults.expired(rows=2))
    seen = ended(client, started(client))
    assert (seen["status"], ids_of(client, seen["output_file_id"])) == ("expired", ["row-0", "row-1"])
    (left,) = lines_of(client, seen["error_file_id"])
    assert (left["custom_id"], left["response"], left["error"]["code"]) == ("row-2", None, "batch_expired")


def test_a_batch_fails_for_the_tokens_that_wait(server: BatchServer, client: httpx.Client) -> None:
    server.script(batch_faults.token_limit())
    seen = ended(client, started(client))
    assert (seen["status"], seen["errors"]["data"][0]["code"]) == ("failed", "token_limit_exceeded")
    assert ended(client, started(client))["status"] == "completed", "the end is one batch's"


@pytest.mark.parametrize(
    ("end", "ids"),
    [
        pytest.param(batch_faults.wrong_ids(), ["row-1", "row-2", "row-0"], id="wrong ids"),
        pytest.param(batch_faults.strange_id(), ["nobody", "row-1", "row-2"], id="strange id"),
        pytest.param(batch_faults.same_id_twice(), ["row-0", "row-0", "row-1", "row-2"], id="same id twice"),
        pytest.param(batch_faults.rows_missing(2), ["row-2"], id="rows missing"),
        pytest.param(batch_faults.shuffled(), ["row-1", "row-0", "row-2"], id="shuffled"),
    ],
)
def test_an_output_file_is_not_what_was_asked_for(
    server: BatchServer, client: httpx.Client, end: BatchEnd, ids: list[str]
) -> None:
    server.script(end)
    seen = ended(client, started(client))
    assert (seen["status"], ids_of(client, seen["output_file_id"])) == ("completed", ids)


@pytest.mark.parametrize(
    ("end", "readable"),
    [
        pytest.param(batch_faults.not_json(), [1, 2], id="not JSON"),
        pytest.param(batch_faults.output_short(), [0, 1], id="short"),
    ],
)
def test_a_line_of_an_output_file_cannot_be_read(
    server: BatchServer, client: httpx.Client, end: BatchEnd, readable: list[int]
) -> None:
    server.script(end)
    seen = ended(client, started(client))
    content = client.get(f"/files/{seen['output_file_id']}/content").text.splitlines()
    parsed = []
    for number, one in enumerate(content):
        try:
            json.loads(one)
        except ValueError:
            continue
        parsed.append(number)
    assert parsed == readable


def test_an_output_breaks_off_once(server: BatchServer, client: httpx.Client) -> None:
    seen = ended(client, started(client))
    server.script(batch_faults.output_cut())
    with pytest.raises(httpx.RemoteProtocolError):
        lines_of(client, seen["output_file_id"])
    assert len(lines_of(client, seen["output_file_id"])) == 3


def test_lost_answers_leave_what_was_done(server: BatchServer, client: httpx.Client) -> None:
    server.script(batch_faults.upload_lost(), batch_faults.start_lost(), batch_faults.cancel_lost())
    with pytest.raises(httpx.TransportError):
        upload(client, file_of(line(0)))
    (file_id,) = server.files
    with pytest.raises(httpx.TransportError):
        start(client, file_id, metadata={"our": "id"})
    (batch,) = client.get("/batches").json()["data"]
    assert batch["metadata"] == {"our": "id"}
    with pytest.raises(httpx.TransportError):
        client.post(f"/batches/{batch['id']}/cancel")
    assert server.batches[0].status == "cancelling"


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        pytest.param(batch_faults.deleted(), [404, 404, 404], id="deleted"),
        pytest.param(batch_faults.out_of_order(times=2), [500, 500, 200], id="out of order"),
        pytest.param(batch_faults.no_right(401), [401, 401, 401], id="no right"),
    ],
)
def test_looking_at_a_batch_goes_wrong(
    server: BatchServer, client: httpx.Client, fault: CallFault, statuses: list[int]
) -> None:
    batch = started(client)
    server.script(fault)
    assert [client.get(f"/batches/{batch['id']}").status_code for _ in range(3)] == statuses


def test_a_start_is_refused_while_others_wait(server: BatchServer, client: httpx.Client) -> None:
    server.script(batch_faults.busy())
    file_id = upload(client, file_of(line(0))).json()["id"]
    refused = start(client, file_id)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "token_limit_exceeded")
    assert "Retry-After" in refused.headers
    assert start(client, file_id).status_code == 200
    assert len(server.batches) == 1


def test_a_server_without_a_list_still_has_batches(server: BatchServer, client: httpx.Client) -> None:
    server.script(batch_faults.no_list())
    batch = started(client)
    assert client.get("/batches").status_code == 404
    assert look(client, batch)["id"] == batch["id"]


def test_single_calls_and_models_are_those_of_the_chat_server(server: BatchServer, client: httpx.Client) -> None:
    server.script(replies.rate_limited())
    assert client.post("/chat/completions", json=line(1)["body"]).status_code == 429
    answer = client.post("/chat/completions", json=line(1)["body"]).json()
    assert answer["choices"][0]["message"]["content"] == "text 1"
    assert client.get("/models").json()["data"][0]["id"] == "test-model"
    assert client.get("/batches/nobody").status_code == 404
