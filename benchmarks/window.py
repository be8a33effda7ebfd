"""How long is the window in which two triggers may both send? `.venv-bench/bin/python benchmarks/window.py`

Between a trigger's last look into its journal (or its own note there) and the arrival of its request at a server on
this machine. A trigger that is stopped in this window, and no other, sends although another one has taken its call
over. Prints milliseconds: the median and the longest of 300 calls, each by a new connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time

from airflow_chat_provider.testing import ChatServer, replies

COUNT = 300
WHERE = {"dag_id": "d", "run_id": "r", "task_id": "t"}


class Memory:
    """In place of XCom."""

    def __init__(self, value):
        self.value, self.noted = value, 0.0

    async def aget(self):
        return dict(self.value)

    async def aput(self, value):
        self.value = value
        if value["state"] == "sent":
            self.noted = time.monotonic()


async def window(server, entry):
    from airflow_chat_provider.triggers import ChatCompletionTrigger

    trigger = ChatCompletionTrigger(**WHERE)
    trigger.journal.slot = Memory(entry.to_dict())
    await anext(trigger.run())
    return (server.requests[-1].received_at - trigger.journal.slot.noted) * 1e3


async def windows(server):
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.durable.entry import Deferred, Entry

    limits = {"timeout": 600.0, "deadline": 1800.0, "max_attempts": 3}
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    where = {"chat_conn_id": "chat_default", "base_url": server.url}
    deferred = Deferred(limits, request, None, 0, Wanted().to_dict(), None, where, {"idempotency_key": "k"})
    return [await window(server, Entry.from_deferred(deferred, "k")) for _ in range(COUNT)]


def main():
    with ChatServer(default=replies.ok()) as server:
        os.environ["AIRFLOW_CONN_CHAT_DEFAULT"] = json.dumps({"conn_type": "chat", "host": server.url})
        printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123 - what triggers log
        found = asyncio.run(windows(server))[1:]
    print(f"{statistics.median(found):.2f} ms, at most {max(found):.2f} ms", file=printed)


if __name__ == "__main__":
    main()
