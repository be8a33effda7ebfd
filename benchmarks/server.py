"""The server that all of them call: answers at once, in a process of its own.

`python benchmarks/server.py [--tls FOLDER]` prints its URL; with --tls it writes its authority to FOLDER/ca.pem.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_chat_provider.testing import ChatServer
from airflow_chat_provider.testing.replies import json_reply, ok

_MAX_SECONDS = 1800


def responses_reply():
    """The same answer in the form of OpenAI's Responses API."""
    text = {"type": "output_text", "text": "Hello", "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 11,
    }
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_767_225_600,
        "status": "completed",
        "model": "test-model",
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }
    return json_reply(200, body)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", type=Path)
    folder = parser.parse_args().tls
    tls = None
    if folder:
        from tests.support.certs import make_certificates

        tls = make_certificates(folder).server_tls
    chat, responses = ok(), responses_reply()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with ChatServer(
        default=lambda request: responses if request.path.endswith("/responses") else chat,
        tls=tls,
        record=lambda _: None,
    ) as server:
        print(server.url, flush=True)
        stop.wait(_MAX_SECONDS)


if __name__ == "__main__":
    main()
