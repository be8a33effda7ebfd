"""The app that hands out the pages: to anybody, and nothing but them."""

import asyncio
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from airflow_chat_provider.plugin import app, pages

FILES = sorted(path.name for path in pages.STATIC.iterdir())
HTML = [name for name in FILES if name.endswith(".html")]
STATIC = [name for name in FILES if not name.endswith(".html")]


@pytest.fixture(scope="module", params=["", "/a/prefix"], ids=["at the root", "below a prefix"])
def browser(request):
    """Nobody in particular, without a session. Airflow mounts the app in this way."""
    site = FastAPI(root_path=request.param, docs_url=None, redoc_url=None, openapi_url=None)
    site.mount("/chat", app)
    with TestClient(
        site, base_url=f"http://testserver{request.param}/", headers={"Accept-Encoding": "identity"}
    ) as client:
        yield client


def asked(path):
    """Status, headers and body for this path. A browser, and the client of the other tests, would tidy it up before."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {}

    scope = {"type": "http", "method": "GET", "path": path, "root_path": "/chat", "headers": []}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, sent[1]["body"]


@pytest.mark.parametrize("page", HTML)
def test_a_page_is_handed_out_to_anybody(browser, page):
    answer = browser.get(f"chat/{page.removesuffix('.html')}?dag_id=a&task_id=%2F..%2F")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == (pages.STATIC / page).read_bytes()


@pytest.mark.parametrize("name", STATIC)
def test_a_file_that_pages_load_is_handed_out_with_its_type(browser, name):
    answer = browser.get(f"chat/static/{name}")
    assert answer.status_code == 200
    assert answer.content == (pages.STATIC / name).read_bytes()
    kind = {"js": "text/javascript", "css": "text/css", "txt": "text/plain", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kind[name.rpartition(".")[2]])


def test_both_pages_are_there_and_load_files_of_this_app_alone(browser):
    assert HTML == ["conversation.html", "usage.html"]
    for page in HTML:
        text = (pages.STATIC / page).read_text("utf-8")
        loaded = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', text)
        assert loaded
        assert all(browser.get(f"chat/{name}").status_code == 200 for name in loaded), loaded
        # The policy forbids what stands in the page itself.
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", text)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "conversation/",
        "conversation.html",
        "static",
        "static/",
        "static/conversation.html",
        "static/../pages.py",
        "static/../static/usage.js",
        "static/..\\pages.py",
        "static//etc/passwd",
        "//etc/passwd",
        "static/usage.js\0",
        "static/usage.js/",
        "static/USAGE.js",
        "conversation/../usage",
        "docs",
        "redoc",
        "openapi.json",
        "api/v2/dags",
        "pages.py",
        "web/package.json",
    ],
)
def test_all_else_is_not_there_also_if_the_path_is_not_what_a_browser_would_send(path):
    status, headers, body = asked(f"/chat/{path}")
    assert (status, headers["content-type"], body) == (404, "text/plain; charset=utf-8", b"There is nothing here")


def test_a_path_that_is_encoded_twice_is_not_there(browser):
    assert browser.get("chat/static/%252e%252e/pages.py").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_nothing_can_be_sent_to_it(browser, method):
    answer = browser.request(method, "chat/usage", content=b"x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["usage", "static/usage.js", "nowhere"])
def test_head_says_what_get_would(browser, path):
    get, head = browser.get(f"chat/{path}"), browser.head(f"chat/{path}")
    assert head.content == b""
    assert (head.status_code, head.headers) == (get.status_code, get.headers)


@pytest.mark.parametrize("known", ["{}", "W/{}", '"another", {}', "*"])
def test_a_file_that_the_browser_has_is_not_sent_again(browser, known):
    etag = browser.get("chat/static/usage.js").headers["etag"]
    answer = browser.get("chat/static/usage.js", headers={"If-None-Match": known.format(etag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


def test_another_version_of_a_file_is_sent(browser):
    answer = browser.get("chat/static/usage.js", headers={"If-None-Match": '"another", W/"one"'})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "conversation", {}),
        ("HEAD", "static/conversation.js", {}),
        ("GET", "static/conversation.css", {"If-None-Match": "*"}),
        ("GET", "nowhere", {}),
        ("POST", "usage", {}),
    ],
    ids=["200", "head", "304", "404", "405"],
)
def test_every_answer_says_what_a_page_may_do(browser, method, path, headers):
    answer = browser.request(method, f"chat/{path}", headers=headers)
    policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in answer.headers


def test_a_websocket_is_refused(browser):
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect("chat/usage"):
        pass


def test_every_file_that_is_shipped_can_be_asked_for():
    assert {path.suffix for path in pages.STATIC.iterdir()} <= set(pages.TYPES)
