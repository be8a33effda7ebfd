"""When a server says to come back."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.server.scrub import Scrubber
from airflow_chat_provider.core.server.verdict import Words
from airflow_chat_provider.core.server.waits import LONGEST, allowance_gone, retry_after

NOW = 1_793_000_000.0  # Mon, 26 Oct 2026 07:33:20 GMT

WAITS: list[tuple[dict[str, str], int, float | None]] = [
    ({}, 429, None),
    ({"retry-after": "2"}, 429, 2.0),
    ({"retry-after": "2.5"}, 503, 2.5),
    ({"retry-after": " 2 "}, 503, 2.0),
    ({"retry-after": "0"}, 429, 0.0),
    ({"retry-after": "3600"}, 503, 3600.0),
    ({"retry-after-ms": "250"}, 429, 0.25),
    ({"retry-after-ms": "250", "retry-after": "1"}, 429, 0.25),
    ({"retry-after-ms": "soon", "retry-after": "1"}, 429, 1.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:34:20 GMT"}, 429, 60.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:33:00 GMT"}, 429, 0.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:34:20 GMT", "date": "Mon, 26 Oct 2026 07:34:10 GMT"}, 429, 10.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:34:20 GMT", "date": "yesterday"}, 429, 60.0),
    ({"retry-after": "Mon Oct 26 07:34:20 2026"}, 429, 60.0),
    ({"retry-after": "Mon, 26 Oct 2026 09:34:20 +0200"}, 429, 60.0),
    *(
        ({"retry-after": bad}, 429, None)
        for bad in ("-1", "nan", "inf", "1e999", "soon", "", "Mon, 99 Oct 2026", "Mon, 26 Oct 99999 07:34:20 GMT")
    ),
    ({"retry-after": "2, 2"}, 429, 2.0),
    ({"retry-after": "2, 5"}, 429, 5.0),
    ({"retry-after": "soon, 5"}, 429, 5.0),
    ({"retry-after": "Mon, 26 Oct 2026 07:34:20 GMT, Mon, 26 Oct 2026 07:34:25 GMT"}, 429, 65.0),
    ({"retry-after": "2026-10-26T07:34:20Z"}, 503, 60.0),
    ({"retry-after": "2026-10-26T09:34:20+02:00"}, 503, 60.0),
    ({"retry-after": "2026-10-26 07:34:20"}, 503, 60.0),
    ({"retry-after": "PT2S"}, 429, 2.0),
    ({"retry-after": "PT1M30.5S"}, 429, 90.5),
    ({"retry-after": "P1DT1H"}, 429, 90000.0),
    ({"retry-after": "P"}, 429, None),
    ({"retry-after": "PT"}, 429, None),
    ({"retry-after": "30s"}, 429, 30.0),
    ({"retry-after": f"{NOW + 40:.0f}"}, 429, 40.0),
    ({"retry-after": f"{LONGEST:.0f}"}, 429, LONGEST),
    ({"retry-after": f"{LONGEST + 1:.0f}"}, 429, None),
    ({"retry-after": "9" * 600}, 429, None),
    ({"retry-after": "Tue, 26 Oct 2027 07:34:20 GMT"}, 429, None),
    ({"retry-after-ms": "250", "retry-after": "60"}, 429, 60.0),
    ({"retry-after-ms": "90000", "retry-after": "60"}, 429, 90.0),
    ({"x-ms-retry-after-ms": "1500"}, 429, 1.5),
    ({"llm_provider-retry-after": "7"}, 429, 7.0),
    ({"llm_provider-retry-after": "7", "retry-after": "3"}, 429, 7.0),
    ({"llm_provider-retry-after": "3", "retry-after": "7"}, 429, 7.0),
    ({"llm_provider-x-ratelimit-reset-requests": "6m0s"}, 429, 360.0),
    ({"ratelimit-reset": "30"}, 429, 30.0),
    ({"ratelimit-reset": "30", "ratelimit-remaining": "0"}, 500, None),
    ({"ratelimit": '"default";r=0;t=30'}, 429, 30.0),
    ({"ratelimit": '"minute";r=0;t=3, "day";r=5;t=600'}, 429, 3.0),
    ({"ratelimit": "limit=100, remaining=0, reset=31"}, 429, 31.0),
    ({"ratelimit": "odd"}, 429, None),
    ({"ratelimit-policy": '"default";q=100;w=60'}, 429, None),
    ({"anthropic-ratelimit-requests-reset": "2026-10-26T07:34:20Z"}, 429, 60.0),
    (
        {
            "anthropic-ratelimit-requests-reset": "2026-10-26T07:33:25Z",
            "anthropic-ratelimit-tokens-reset": "2026-10-26T07:34:20Z",
            "anthropic-ratelimit-tokens-remaining": "0",
        },
        429,
        60.0,
    ),
    ({"x-ratelimit-reset-after": "1.5"}, 429, 1.5),
    ({"x-ratelimit-reset-tokens-minute": "12.5"}, 429, 12.5),
    ({"x-ratelimit-reset-requests": "6m0s"}, 429, 360.0),
    ({"x-ratelimit-reset-requests": "20ms"}, 429, 0.02),
    ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 429, 3723.5),
    ({"x-ratelimit-reset-requests": "1D"}, 498, 86400.0),
    ({"x-ratelimit-reset": "7.66"}, 429, 7.66),
    ({"x-ratelimit-reset": f"{NOW + 30:.0f}"}, 429, 30.0),
    ({"x-ratelimit-reset": f"{(NOW + 30) * 1000:.0f}"}, 429, 30.0),
    ({"x-ratelimit-reset": f"{NOW - 30:.0f}"}, 429, 0.0),
    ({"x-ratelimit-reset": "6 minutes"}, 429, 360.0),
    ({"x-ratelimit-reset": ""}, 429, None),
    ({"x-ratelimit-reset-requests": "6m0s"}, 500, None),  # some send it with each answer
    ({"x-ratelimit-reset-requests": "6m0s", "retry-after": "1"}, 429, 1.0),
    ({"x-ratelimit-reset-requests": "5s", "x-ratelimit-reset-tokens": "60s"}, 429, 5.0),
    (
        {
            "x-ratelimit-reset-requests": "5s",
            "x-ratelimit-remaining-requests": "17",
            "x-ratelimit-reset-tokens": "60s",
            "x-ratelimit-remaining-tokens": "0",
        },
        429,
        60.0,
    ),
    (
        {
            "x-ratelimit-reset-requests": "5s",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-tokens": "60s",
            "x-ratelimit-remaining-tokens": " 0 ",
        },
        429,
        60.0,
    ),
]


@pytest.mark.parametrize(("headers", "status", "seconds"), WAITS, ids=str)
def test_the_wait_that_a_server_asks_for(headers: dict[str, str], status: int, seconds: float | None) -> None:
    assert retry_after(headers, status=status, now=NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_date_without_a_zone_is_utc_wherever_the_worker_is(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after({"retry-after": "Mon Oct 26 07:34:20 2026"}, status=429, now=NOW) == 60.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-x", "date"]), st.text()))
def test_any_header_can_be_read_for_a_wait(headers: dict[str, Any]) -> None:
    found = retry_after(headers, status=429, now=NOW)
    assert found is None or found >= 0


BODIES: list[tuple[Any, float | None]] = [
    ([{"error": {"code": 429, "details": [{"@type": "google.rpc.RetryInfo", "retryDelay": "2.5s"}]}}], 2.5),
    ({"error": {"details": [{"retryDelay": {"seconds": 2, "nanos": 500000000}}]}}, 2.5),
    ({"error": {"details": [{"retryDelay": {"seconds": "2"}}]}}, 2.0),
    ({"error": {"details": [{"metadata": {"quotaResetDelay": "135h9m46s"}}]}}, 486586.0),
    ({"error": {"details": [{"metadata": {"quotaResetDelay": "373.8ms"}}]}}, 0.3738),
    ({"error": {"details": [{"metadata": {"quotaResetTimeStamp": "2026-10-26T07:34:20Z"}}]}}, 60.0),
    ({"error": "Model x is currently loading", "estimated_time": 2.0}, 2.0),
    ({"error": {"retry_after": 3}}, 3.0),
    ({"error": {"retry_after": "3"}}, 3.0),
    ({"retryAfter": "PT3S"}, 3.0),
    ({"error": {"metadata": {"retry_after_seconds": 11, "retry_after_seconds_raw": 10.918}}}, 11.0),
    ({"retry_after_ms": 1500}, 1.5),
    ({"error": {"type": "usage_limit_reached", "resets_in_seconds": 600}}, 600.0),
    ({"error": {"resets_at": NOW + 50}}, 50.0),
    ({"error": {"resets_at": 50}}, None),
    ({"a": {"retry_after": 1}, "b": [{"retry_after": 4}, {"retry_after": 2}]}, 4.0),
    (
        {"error": {"metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW + 30:.0f}000"}}}},
        30.0,
    ),
    ({"error": {"metadata": {"headers": {"Retry-After": 5}}}}, 5.0),
    ({"retry_after": True}, None),
    ({"retry_after": -1}, None),
    ({"retry_after": 10**400}, None),
    ({"retry_after": float("nan")}, None),
    ({"retry_after": float("inf")}, None),
    ({"retry_after": None}, None),
    ({"retry_after": []}, None),
    ({"choices": [{"message": {"retry_after": 4}}], "error": {}}, None),
    ("retry_after", None),
    (None, None),
]


@pytest.mark.parametrize(("body", "seconds"), BODIES, ids=str)
def test_the_wait_that_a_body_names(body: Any, seconds: float | None) -> None:
    assert retry_after({}, status=429, now=NOW, body=body) == (None if seconds is None else pytest.approx(seconds))


WORDS = [
    ("Rate limit reached. Please try again in 1.2s. Visit https://h", 1.2),
    ("Please try again in 20ms.", 0.02),
    ("Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s. Need more tokens?", 578.016),
    ("Please retry in 51.606482386s.", 51.606482386),
    ("Please retry after 20 seconds.", 20.0),
    ("please try again after 1 seconds", 1.0),
    ("Rate limit of 50 per 86400s exceeded. Please wait 3000 seconds before retrying.", 3000.0),
    ("You have exhausted your capacity on this model. Your quota will reset after 2h21m30s.", 8490.0),
    ("Try again in 1 hour, 2 minutes and a bit", 3720.0),
    ("Please try again in 7 minutes", 420.0),
    ("Try again later. Limit 60s", None),
    ("retry up to 3 times", None),
    ("wait 5 moons", None),
    ("Please try again", None),
]


@pytest.mark.parametrize(("text", "seconds"), WORDS)
def test_the_wait_that_words_name(text: str, seconds: float | None) -> None:
    found = retry_after({}, status=429, now=NOW, words=Words(text))
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_the_longest_wait_wins() -> None:
    body = {"error": {"details": [{"retryDelay": "3s"}]}}
    waits = [
        retry_after(
            {"retry-after": header}, status=429, now=NOW, body=body, words=Words(f"Please try again in {said}s.")
        )
        for header, said in (("5", "1"), ("1", "5"), ("1", "1"))
    ]
    assert waits == [5.0, 5.0, 3.0]


def test_the_wait_in_a_quotation_of_the_prompt_is_not_asked_for() -> None:
    prompt = "the bank told me: please try again in 3 days, or call"
    scrub = Scrubber({"messages": [{"role": "user", "content": prompt}]})
    assert retry_after({}, status=500, now=NOW, words=Words(f"cannot parse {prompt}", scrub)) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}, 20.0),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "20s"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "7"}, 7.0),
        ({"ratelimit": '"a";r=0;t=7'}, 7.0),
        ({"ratelimit": '"a";r=1;t=7'}, None),
        (
            {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-10-26T07:33:25Z"},
            5.0,
        ),
        ({"llm_provider-x-ratelimit-remaining": "0", "llm_provider-x-ratelimit-reset": "7"}, 7.0),
        ({"retry-after": "5"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_an_answer_tells_when_an_allowance_that_it_used_up_is_whole_again(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert allowance_gone(headers, now=NOW) == (None if seconds is None else pytest.approx(seconds))
