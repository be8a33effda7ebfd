"""Bodies that are not what their Content-Type says, or not written as the standard has it: with what each one is."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

KIND = "text/event-stream"


def chunk(text: str = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


def dumped(value: Any, **layout: Any) -> bytes:
    return json.dumps(value, **layout).encode()


CHUNKS = [chunk("Hel"), chunk("lo\u2028\u00e9"), chunk("", "stop")]
LINES = [dumped(one) for one in CHUNKS]
TEXT = "Hello\u2028\u00e9"
DONE = b"data: [DONE]\n\n"
WHOLE = {
    "id": "c",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
}
PING = b": OPENROUTER PROCESSING\n\n"
BOM = b"\xef\xbb\xbf"
ERROR = {"code": "slot_lost", "message": "the slot is gone", "type": "slot_error"}
HALF = b"data: " + LINES[0] + b"\n\n"


def events(start: bytes = b"data: ", end: bytes = b"\n\n", done: bytes = DONE) -> bytes:
    return b"".join(start + line + end for line in LINES) + done


STREAMS: dict[str, bytes] = {
    "as the standard has it": events(),
    "without a space": events(b"data:"),
    "one line break": events(end=b"\n"),
    "one line break, and no end": events(end=b"\n", done=b""),
    "CRLF": events(end=b"\r\n\r\n"),
    "one CRLF": events(end=b"\r\n"),
    "one CR": events(end=b"\r"),
    "one or two line breaks": events(end=b"\n").replace(b"\n", b"\n\n", 1),
    "blank lines first": b"\n\r\n\n" + events(),
    "comments first": PING * 3 + events(),
    "comments between": events(end=b"\n" + PING),
    "a byte order mark": BOM + events(),
    "a named event": events(b"event: message\nid: 1\ndata: "),
    "a name after the data": events(end=b"\nevent: message\n\n"),
    "an object over many lines of data": b"".join(
        b"data: " + dumped(one, indent=1).replace(b"\n", b"\ndata: ") + b"\n\n" for one in CHUNKS
    ),
    "a line of data that only looks whole": events().replace(b'"choices": ', b'"x": {}\ndata: , "choices": ', 1),
    "white space after the data": events(end=b" \n\n"),
    "data twice": events(b"data: data: "),
    "JSON lines": events(b"", b"\n", b""),
    "JSON lines, the last without a line break": events(b"", b"\n", b"").rstrip(),
    "JSON lines with blank ones": events(b"", b"\n\n", b""),
    "JSON lines and an end": events(b"", b"\n", b"[DONE]\n"),
    "JSON lines after comments": PING + events(b"", b"\n", b""),
    "JSON lines over CRLF": events(b"", b"\r\n", b""),
    "data twice, one line break": events(b"data: data: ", b"\n"),
    "done as JSON": events(done=b'data: "[DONE]"\n\n'),
    "done without its line break": events(done=b"data: [DONE]"),
}

DOCUMENTS: dict[str, bytes] = {
    "JSON": dumped(WHOLE),
    "JSON and a line break": dumped(WHOLE) + b"\n",
    "JSON and an end": dumped(WHOLE) + b"\n\n" + DONE,
    "JSON and an end without a line break": dumped(WHOLE) + b"data: [DONE]",
    "JSON, comments and an end": dumped(WHOLE) + b"\n\n" + PING + DONE,
    "JSON over many lines": dumped(WHOLE, indent=2),
    "JSON over many lines, and an end": dumped(WHOLE, indent=2) + b"\r\n\r\n" + DONE,
    "JSON after blank lines": b"\n" * 9 + dumped(WHOLE),
    "JSON after comments": PING * 3 + dumped(WHOLE, indent=2),
    "JSON after a byte order mark": BOM + dumped(WHOLE),
}


class Broken(NamedTuple):
    """What came, a part of the problem (of the error's text where it is no stream), and the body that is left."""

    raw: bytes
    says: str
    body: Any


def half(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hel"}
    choices = [{"index": 0, "finish_reason": None, "message": message}]
    return {"id": "c", "object": "chat.completion", "choices": choices, **more}


BAD_EVENT = b'data: {"id": nonsense}\n\n'
DEEP = b'data: {"choices": ' + b"[" * 300 + b"]" * 300 + b"}\n\n"
PAGE = b"<html><body>data: Bad gateway\n{}</body></html>\n"
UNFINISHED = "before every choice had a finish_reason"
HOLDS_ERROR = "the stream contains an error"
BROKEN: dict[str, Broken] = {
    "ends early": Broken(HALF, UNFINISHED, half()),
    "ends early, one line break": Broken(HALF[:-1], UNFINISHED, half()),
    "JSON lines end early": Broken(LINES[0] + b"\n", UNFINISHED, half()),
    "only the end": Broken(DONE, UNFINISHED, DONE.decode()),
    "an event that is not JSON": Broken(BAD_EVENT + DONE, "not JSON", (BAD_EVENT + DONE).decode()),
    "an event that is not JSON, later": Broken(HALF + BAD_EVENT + DONE, "not JSON", half()),
    "an event too deep": Broken(DEEP, "nested too deep", DEEP.decode()),
    "an event too deep, later": Broken(HALF + DEEP, "nested too deep", half()),
    "an event that is a list": Broken(b"data: [1]\n\n", "not a JSON object", "data: [1]\n\n"),
    "half an event": Broken(b'data: {"id": "c", ', "in the middle of an event", 'data: {"id": "c", '),
    "a field error": Broken(HALF + b"error: " + dumped(ERROR) + b"\n\n" + DONE, HOLDS_ERROR, half(error=ERROR)),
    "a field error first": Broken(b"error: " + dumped(ERROR) + b"\n\n", HOLDS_ERROR, {"error": ERROR}),
    "an error in words": Broken(b"event: error\ndata: gone\ndata: away\n\n", HOLDS_ERROR, {"error": "gone\naway"}),
    "an error without a field": Broken(HALF + b"data: " + dumped(ERROR) + b"\n\n", HOLDS_ERROR, half(error=ERROR)),
    "an error without data": Broken(HALF + dumped({"error": ERROR}, indent=1) + b"\n", HOLDS_ERROR, half(error=ERROR)),
    "an error in a line": Broken(HALF + dumped({"error": ERROR}) + b"\n", HOLDS_ERROR, half(error=ERROR)),
    "a page": Broken(PAGE, "text that is not JSON", PAGE.decode()),
    "a text": Broken(b"upstream connect error\n", "text that is not JSON", "upstream connect error\n"),
    "JSON and more": Broken(
        dumped(WHOLE) + b"\nmore {}", "text that is not JSON", (dumped(WHOLE) + b"\nmore {}").decode()
    ),
    "JSON twice": Broken(dumped(WHOLE) * 2, "text that is not JSON", (dumped(WHOLE) * 2).decode()),
    "blank lines": Broken(b"\n\r\n \n", "an empty body", "\n\r\n \n"),
    "comments": Broken(PING * 3, "an empty body", (PING * 3).decode()),
    "pings": Broken(b"event: ping\ndata:\n\n" * 2, "an empty body", "event: ping\ndata:\n\n" * 2),
}
"""Of each, the error and XCom's body, whatever its Content-Type is."""
