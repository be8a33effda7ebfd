"""The pictures of the documentation: `make screenshots`. They are of the same runs as the tests."""

import os
import random
import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

ASKED = os.environ.get("AIRFLOW_CHAT_TEST_SCREENSHOTS")
LARGEST = 150_000
SIZE = {"width": 1120, "height": 780}
# What a reader would see: a history of usage, which the examples alone have not made.
MODELS = ("gpt-5.4-mini", "Qwen/Qwen3-8B", "claude-haiku-4-5")

pytestmark = pytest.mark.skipif(not ASKED, reason="made by `make screenshots` alone")


def save(page, project, name):
    file = project / "docs" / "assets" / f"{name}.png"
    page.screenshot(path=file, animations="disabled", caret="hide")
    assert file.stat().st_size < LARGEST


def test_the_conversation_page(visit, project):
    page = visit("viewer", viewport=SIZE, color_scheme="light").conversation("reviews", "find_problems")
    expect(page.locator("article.is-reply")).to_be_visible()
    save(page, project, "conversation")


def test_the_usage_page(visit, project):
    visitor = visit("viewer", viewport=SIZE, color_scheme="light")
    pretend(visitor)
    page = visitor.open("/chat/usage")
    expect(page.get_by_role("region", name="What was read")).to_contain_text(re.compile("All"))
    expect(page.locator("canvas").first).to_be_visible()
    save(page, project, "usage")


def pretend(visitor):
    """Let the API answer with a month of made-up usage."""
    chance = random.Random(7)
    entries = [entry(chance, at) for at in range(400)]

    def listed(route):
        offset, limit = number("offset=", route, 0), number("limit=", route, 100)
        page = entries[offset : offset + min(limit, 100)]
        route.fulfill(json={"xcom_entries": page, "total_entries": len(entries)})

    def value(route):
        found = entries[number("dagRuns/run_", route, 0)]
        route.fulfill(json=found | {"value": usage(chance, found["dag_id"])})

    visitor.page.route(re.compile(r"/dags/~/dagRuns/~/taskInstances/~/xcomEntries"), listed)
    visitor.page.route(re.compile(r"/dagRuns/run_\d+/taskInstances/\w+/xcomEntries/usage"), value)


def number(name, route, default):
    """The one that follows in the address of a request."""
    found = re.search(rf"{name}(\d+)", route.request.url)
    return int(found[1]) if found else default


def entry(chance, at):
    time = datetime.now(UTC) - timedelta(hours=at * 0.4, minutes=chance.randrange(20))
    dag_id, task_id = chance.choice([("reviews", "classify"), ("letters", "answer"), ("tickets", "sort")])
    return {
        "key": "usage",
        "dag_id": dag_id,
        "dag_display_name": dag_id,
        "task_id": task_id,
        "task_display_name": task_id,
        "run_id": f"run_{at}",
        "map_index": -1,
        "logical_date": time.isoformat(),
        "run_after": time.isoformat(),
        "timestamp": time.isoformat(),
    }


def usage(chance, dag_id):
    read, written = int(chance.lognormvariate(7, 0.5)), int(chance.lognormvariate(5, 0.5))
    error = {"RateLimited 429": 1} if chance.random() < 0.05 else {}
    return {
        "requests": 1 - len(error),
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "cache_read_tokens": read // 3,
        "cache_write_tokens": None,
        "reasoning_tokens": written // 3,
        "tool_calls": 0,
        "cost": round(read * 4e-7 + written * 1.6e-6, 8),
        "currency": "USD",
        "model": MODELS[len(dag_id) % 3],
        "attempts": 1,
        "seconds": round(chance.lognormvariate(0.5, 0.5), 3),
        "request_id": None,
        "errors": error,
        "rejected": [],
    }
