"""The ASGI app that hands out the pages. It has no data, so it asks nobody who they are.

Airflow checks no session before it calls a plugin's app. What a page shows, it asks of Airflow's REST API itself, with
the session of the user who looks at it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""What is handed out. A file with another ending is not."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What a page may do: load this origin's scripts and styles, show pictures that it has already, ask this origin."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Asked for anew each time, which a 304 answers: a new version is seen at once.
    "cache-control": "no-cache",
}


class File(NamedTuple):
    body: bytes
    type: str
    etag: str


async def app(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    """The ASGI app, mounted below a path of Airflow's."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    status, headers, body = _answer(scope)
    encoded = [(name.encode(), value.encode()) for name, value in (HEADERS | headers).items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _answer(scope: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
    file = _files().get(_path(scope))
    if file is None:
        return _text(404, "There is nothing here")
    if scope["method"] not in ("GET", "HEAD"):
        status, headers, body = _text(405, "Use GET")
        return status, headers | {"allow": "GET, HEAD"}, body
    if _knows(scope, file.etag):
        return 304, {"etag": file.etag}, b""
    return 200, {"content-type": file.type, "content-length": str(len(file.body)), "etag": file.etag}, file.body


def _text(status: int, text: str) -> tuple[int, dict[str, str], bytes]:
    body = text.encode()
    return status, {"content-type": TYPES[".txt"], "content-length": str(len(body))}, body


def _path(scope: Mapping[str, Any]) -> str:
    """The path below the one at which the app is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


def _knows(scope: Mapping[str, Any], etag: str) -> bool:
    """Has the browser this file already?"""
    given = b",".join(value for name, value in scope["headers"] if name.lower() == b"if-none-match").decode("latin-1")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in given.split(","))


@cache
def _files() -> dict[str, File]:
    """Every file, by its path. They are few and small, and what is not among them cannot be asked for."""
    import hashlib

    found = {}
    for file in sorted(STATIC.iterdir()):
        if file.suffix in TYPES:
            body = file.read_bytes()
            path = f"/{file.stem}" if file.suffix == ".html" else f"/static/{file.name}"
            found[path] = File(body, TYPES[file.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found
