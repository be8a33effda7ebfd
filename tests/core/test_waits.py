"""When a server says to come back."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_chat_provider.core.waits import retry_after

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
def test_no_header_breaks_it(headers: dict[str, Any]) -> None:
    found = retry_after(headers, status=429, now=NOW)
    assert found is None or found >= 0
