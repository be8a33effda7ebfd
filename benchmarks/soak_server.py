"""The server of the soak: `python soak_server.py FOLDER SEED PERCENT` prints its URL and notes in FOLDER what it did.

Each answer has an id of its own (``ans-17.``), in its text and in its ``x-request-id``. ``server.jsonl`` gets a line
for each POST, and one more for each answer that was sent to its last byte. What a POST is answered with is drawn from
the seed, from whose POST it is and which of his.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_chat_provider.testing import ChatServer, End, Received, Reply, replies
from tests.support import faults

_SUBJECT = re.compile(r"subject (\S+) end")
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}  # so that a sum of usages counts answers
LIMIT = 200_000
"""The connection's max_response_bytes."""


def good(mark: str, request: Received) -> Reply:
    """What was asked for."""
    if "as JSON" in request.body.decode():
        return replies.ok(json.dumps({"number": 7, "mark": mark}), usage=_USAGE)
    if request.json.get("stream"):
        usage = {**replies.chunk(), "choices": [], "usage": _USAGE}
        return replies.sse([*replies.events_of(f"This is {mark} in words")[:-1], usage])
    return replies.ok(f"This is {mark} in words", usage=_USAGE)


def whole(mark: str) -> bytes:
    return replies.ok(f"This is {mark} in words", usage=_USAGE).body


def in_pieces(mark: str, _: Received) -> Reply:
    body = whole(mark)
    return replies.chunked([body[start : start + 7] for start in range(0, len(body), 7)])


Make = Callable[[str, Received], Reply]

BROKEN: dict[str, Make] = {
    "reset": lambda *_: faults.reset(),
    "close": lambda *_: faults.close(),
    "hang": lambda *_: faults.hang(),
    "garbage": lambda *_: faults.raw(b"\x00\x01\x02 no HTTP\r\n\r\n"),
    "half body": lambda mark, _: faults.half_body(whole(mark)[:-9]),
    "half body, reset": lambda mark, _: faults.half_body(whole(mark)[:-9], end=End.RESET),
    "half body, stalled": lambda mark, _: faults.half_body(whole(mark)[:-9], end=End.HANG),
    "cut chunks": lambda mark, _: faults.cut_chunked(whole(mark)[:-9]),
    "cut stream": lambda mark, _: faults.cut_stream(f"This is {mark} in words"),
    "stalled stream": lambda mark, _: faults.cut_stream(f"This is {mark} in words", end=End.HANG),
    "endless body": lambda *_: faults.drip(),
    "endless headers": lambda *_: faults.drip_headers(),
}
REFUSED: dict[str, Make] = {
    "429, wait": lambda *_: replies.rate_limited(0.3),
    "429": lambda *_: replies.error(429, "too many"),
    "500": lambda *_: replies.error(500, "out of order"),
    "502": lambda *_: replies.text(502, "<html>Bad gateway</html>", "text/html"),
    "503, wait": lambda *_: replies.error(503, "overloaded", headers={"retry-after-ms": "200"}),
    "408": lambda *_: replies.status(408),
    "400": lambda *_: replies.error(400, "no such thing"),
    "redirect": lambda *_: faults.redirect("/elsewhere"),
}
NO_COMPLETION: dict[str, Make] = {
    "error in a 200": lambda mark, _: replies.json_reply(200, {"error": {"message": f"{mark} broke", "code": 500}}),
    "HTML": lambda mark, _: replies.text(200, f"<html>{mark}</html>", "text/html"),
    "bad JSON": lambda mark, _: replies.text(200, whole(mark)[:-9].decode(), "application/json"),
    "no choices": lambda mark, _: replies.json_reply(200, replies.completion(id=mark, choices=[])),
    "null": lambda *_: replies.json_reply(200, None),
    "empty": lambda *_: replies.status(200),
    "too large": lambda mark, _: replies.ok(mark + "x" * 2 * LIMIT),
    "gzip bomb": lambda *_: faults.gzip_bomb(8 << 20),
    "no gzip": lambda mark, request: replace(good(mark, request), headers={"Content-Encoding": "gzip"}),
}
UNWANTED: dict[str, Make] = {
    "words for JSON": lambda mark, _: replies.ok(f"I would rather say {mark}", usage=_USAGE),
    "another JSON": lambda mark, _: replies.ok(json.dumps({"number": "seven", "mark": mark}), usage=_USAGE),
    "cut off": lambda mark, _: replies.ok(f'{{"mark": "{mark}', finish_reason="length", usage=_USAGE),
    "NUL": lambda mark, _: replies.ok(f"\x00 \ud800 {mark}", usage=_USAGE),
}
SLOW: dict[str, Make] = {
    "late": lambda mark, request: replies.delay(0.6, good(mark, request)),
    "byte by byte": lambda mark, _: faults.drip(whole(mark), 0.001),
    "in pieces": in_pieces,
    "compressed": lambda mark, _: faults.gzipped(replies.ok(f"This is {mark} in words", usage=_USAGE)),
    "then closed": lambda mark, request: replace(good(mark, request), end=End.CLOSE),
}
WORDS = {"byte by byte", "in pieces", "compressed"}
"""Those that are never JSON."""
KINDS = {"broken": BROKEN, "refused": REFUSED, "no completion": NO_COMPLETION, "unwanted": UNWANTED, "slow": SLOW}


class Notes:
    """Draws the answers and writes down what became of them."""

    def __init__(self, file: Path, seed: str, percent: float) -> None:
        self._file = file.open("w", buffering=1)
        self._seed = seed
        self._percent = percent
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._asked: Counter[str] = Counter()

    def answer(self, request: Received) -> Reply:
        """What this POST is answered with."""
        found = _SUBJECT.search(request.body.decode())
        subject = found[1] if found else "?"
        with self._lock:
            mark = f"ans-{next(self._numbers)}."
            self._asked[subject] += 1
            draw = random.Random(f"{self._seed} {subject} {self._asked[subject]}")
        name, make = self._drawn(draw)
        reply = make(mark, request)
        headers = {**reply.headers, "x-request-id": mark}
        reply = replace(reply, wait=reply.wait + draw.uniform(0.0, 0.1), headers=headers)
        key = request.headers.get("idempotency-key")
        fits = name not in (UNWANTED.keys() | WORDS if "as JSON" in request.body.decode() else ())
        self._note(id=mark, subject=subject, key=key, kind=name, status=reply.status, fits=fits, asked=time.time())
        return self._noting(mark, reply) if name not in BROKEN else reply

    def _drawn(self, draw: random.Random) -> tuple[str, Make]:
        place = draw.uniform(0, 100) // self._percent if self._percent else len(KINDS)
        if place >= len(KINDS):
            return "good", good
        return draw.choice(list(KINDS[list(KINDS)[int(place)]].items()))

    def _noting(self, mark: str, reply: Reply) -> Reply:
        def steps(_):
            yield from reply.steps(reply)
            self._note(id=mark, sent=time.time())

        return replace(reply, steps=steps)

    def _note(self, **line) -> None:
        text = json.dumps(line) + "\n"
        with self._lock:
            self._file.write(text)


def main() -> None:
    notes = Notes(Path(sys.argv[1]) / "server.jsonl", sys.argv[2], float(sys.argv[3]))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with ChatServer(default=notes.answer, record=lambda _: None) as server:
        print(server.url, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
