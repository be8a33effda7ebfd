"""The server that the batch API is measured against, in a process of its own: `python batch_server.py [POLLS]`.

It prints its URL.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_chat_provider.testing import BatchServer

_MAX_SECONDS = 1800


def main():
    polls = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with BatchServer(polls=polls, record=lambda _: None) as server:
        print(server.url, flush=True)
        stop.wait(_MAX_SECONDS)


if __name__ == "__main__":
    main()
