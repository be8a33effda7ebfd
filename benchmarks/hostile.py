"""A thousand calls on one event loop, and beside them one server that means harm: `python hostile.py [CASE ...]`.

For each case a fresh process keeps a thousand calls to a friendly server under way, each of which takes some seconds.
Then the hostile answer comes, is read, made safe for XCom and written out, as a trigger does that. Printed are the
longest time for which the loop stood still, the longest work in such a time, what the process's memory grew by at its
largest, and the seconds until the hostile call was over. `alone` is the friendly calls without a hostile one.
To measure another tree, set PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import random
import resource
import subprocess
import sys
import time
from functools import partial

CALLS = 1000
PATIENCE = 40
MB = 1 << 20
OK = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}]}'
TOKEN = b'{"token":"abc","logprob":-0.1,"bytes":[97,98,99]}'


def head(*headers, status=b"200 OK"):
    return b"\r\n".join((b"HTTP/1.1 " + status, *headers)) + b"\r\n\r\n"


def whole(body, *headers, kind=b"application/json", status=b"200 OK"):
    yield head(b"Content-Type: " + kind, b"Content-Length: %d" % len(body), *headers, status=status)
    for start in range(0, len(body), MB):
        yield body[start : start + MB]


def events(made):
    yield head(b"Content-Type: text/event-stream", b"Connection: close")
    batch = []
    for data in made:
        batch.append(b"data: " + data + b"\n\n")
        if len(batch) == 1000:
            yield b"".join(batch)
            batch.clear()
    yield b"".join(batch) + b"data: [DONE]\n\n"


def tool_calls():
    one = b'{"choices":[{"delta":{"tool_calls":[{"index":%d,"id":"c%d","function":{"name":"f","arguments":"{}"}}]}}]}'
    return events(one % (n, n) for n in range(20_000))


def choices():
    return events(b'{"choices":[{"index":%d,"delta":{"content":"x"}}]}' % n for n in range(200_000))


def small_events():
    return events(b'{"choices":[{"delta":{"content":"x"}}]}' for _ in range(300_000))


def long_line():
    return events([OK.replace(b"message", b"delta") % (b"x" * (15 * MB))])


def reset():
    return whole(b"{}", b"x-ratelimit-reset-tokens: " + b"1" * 20_000, status=b"429 Too Many")


def charset():
    return whole(b"<-" + b"abcd" * 25_000 + b"-" + b"abcd" * 25_000, kind=b"text/html; charset=punycode")


def empty_objects():
    return whole(gzip.compress(b"[" + b"{}," * (10 * MB // 3) + b"{}]"), b"Content-Encoding: gzip")


def empty_lists():
    return whole(b'{"choices":[' + b"[]," * (10 * MB // 3) + b"{}]}")


def log_probabilities():
    token = TOKEN[:-1] + b',"top_logprobs":[%s]}' % b",".join([TOKEN] * 20)
    tokens = b",".join([token] * (9 * MB // len(token)))
    return whole(OK.replace(b'"index":0', b'"index":0,"logprobs":{"content":[%s]}' % tokens) % b"x")


def text_10():
    return whole(OK % ("é\\u0000 and so on\\n".encode() * (10 * MB // 20)))


def text_64():
    return whole(OK % (b"x" * (64 * MB - 200)))


def wide_64():
    return whole(OK % ("日本語".encode() * (7 * MB)))


def one_byte_chunks():
    yield head(b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    body = OK % (b"x" * 400_000)
    for start in range(0, len(body), 10_000):
        yield b"".join(b"1\r\n%c\r\n" % byte for byte in body[start : start + 10_000])
    yield b"0\r\n\r\n"


def interim():
    for _ in range(200):
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 1000
    yield from whole(OK % b"x")


def trailers():
    yield head(b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    body = OK % b"x"
    yield b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, b"a:\r\n" * 25_000)


def headers():
    yield from whole(OK % b"x", *[b"a:"] * 24_000)


def nesting():
    return whole(b"[" * (10 * MB))


def nested_events():
    return events(b'{"x%d":%s1%s}' % (n, b'{"a":' * 300, b"}" * 300) for n in range(3000))


def error_10():
    item = b'{"loc":["body","messages",0],"msg":"stream_options","input":"%s"}' % (b"x" * 40)
    return whole(b'{"detail":[%s]}' % b",".join([item] * (10 * MB // len(item))), status=b"400 Bad")


def quoting(body):
    said = json.loads(body)["messages"][0]["content"][5000:5600] if body else ""
    return whole(json.dumps({"error": {"message": said}}).encode(), b"retry-after-ms: 1", status=b"429 Too Many")


CASES = {
    "alone": None,
    "20,000 streamed tool calls": tool_calls,
    "200,000 streamed choices": choices,
    "300,000 small events": small_events,
    "an event of 15 MB": long_line,
    "3,000 nested events": nested_events,
    "a reset header of 20,000 digits": reset,
    "200 kB in charset=punycode": charset,
    "10 MB of {}, gzipped": empty_objects,
    "10 MB of []": empty_lists,
    "9 MB of log-probabilities": log_probabilities,
    "10 MB of text to be made safe": text_10,
    "64 MB of ASCII": text_64,
    "63 MB of Japanese": wide_64,
    "10 MB of [": nesting,
    "an error of 10 MB": error_10,
    "400,000 chunks of one byte": one_byte_chunks,
    "200,000 interim responses": interim,
    "24,000 headers": headers,
    "25,000 trailers": trailers,
    "429 to 30 prompts of 1 MB": quoting,
}
NAMES = list(CASES)


# The server


async def answer(reader, writer):
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            top = await reader.readuntil(b"\r\n\r\n")
            size = int(top.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            body = await reader.readexactly(size)
            name = top.split(b" ")[1].split(b"/")[1].decode()
            await play(name, body, writer)
            if name != "friendly":
                break
    writer.close()


async def play(name, body, writer):
    if name == "friendly":
        await asyncio.sleep(random.uniform(5, 25))
        writer.write(b"".join(whole(OK % b"Hello")))
        return
    case = CASES[NAMES[int(name)]]
    for piece in quoting(body) if case is quoting else case():
        writer.write(piece)
        await writer.drain()


async def serve():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2048, limit=1 << 21)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# The clients


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Ticker:
    """The longest time for which the loop did not come back to it, and what of that was work.

    Work is CPU time of the process, in all its threads; without it the machine did something else. The collections of
    Python's garbage collector are counted apart: they take their time for whatever the process holds.
    """

    late = work = collection = 0.0

    def __init__(self):
        self._collected = 0.0
        self._began = None
        gc.callbacks.append(self._note)

    def _note(self, phase, _info):
        if phase == "start":
            self._began = time.process_time()
            return
        took, self._began = time.process_time() - self._began, None
        self._collected += took
        self.collection = max(self.collection, took)

    def _collecting(self):
        """CPU time of all collections; one in another thread may not have noted its end."""
        began = self._began
        return self._collected + (0.0 if began is None else time.process_time() - began)

    async def run(self):
        while True:
            began, spent, collected = time.perf_counter(), time.process_time(), self._collecting()
            await asyncio.sleep(0.002)
            late = time.perf_counter() - began - 0.002
            work = time.process_time() - spent - (self._collecting() - collected)
            self.late, self.work = max(self.late, late), max(self.work, min(late, work))


def call_to(port, name, prompt, attempts=1):
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.transport.session import call_for

    settings = Settings(base_url=f"http://127.0.0.1:{port}/{name}", max_attempts=attempts)
    request = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    return settings, call_for(request, settings)


async def ask(settings, call):
    from airflow_chat_provider.core.call.exchange import exchange
    from airflow_chat_provider.transport.session import AsyncSession

    client = AsyncSession(settings)
    try:
        return await client.run(exchange(call), {})
    finally:
        await client.aclose()


async def keep(reply):
    """As a trigger keeps it."""
    from airflow_chat_provider.core.answer import record

    try:
        from airflow_chat_provider.transport.aside import asafe_dump
    except ImportError:
        record.dump(record.safe(reply))
    else:
        await asafe_dump(reply)


async def friend(port, stop):
    settings, call = call_to(port, "friendly", "Hi")
    await asyncio.sleep(random.uniform(0, 3))
    while not stop.is_set():
        reply = await ask(settings, call)
        assert reply.error is None, reply.error


def foe(port, name):
    """The hostile calls, made ready."""
    many = CASES[name] is quoting
    prompt = " ".join(random.choices(["a", "broken", "wing", "of", "the", "kestrel", "in", "hospital"], k=1 << 18))[:MB]
    settings, call = call_to(port, NAMES.index(name), prompt if many else "Hi", attempts=3 if many else 1)

    async def one():
        await keep(await ask(settings, call))

    async def all_of_them():
        await asyncio.gather(*(one() for _ in range(30 if many else 1)))

    return all_of_them


async def measured(port, name):
    stop, ticker = asyncio.Event(), Ticker()
    friends = [asyncio.create_task(friend(port, stop)) for _ in range(CALLS)]
    await asyncio.sleep(5)
    calls = partial(asyncio.sleep, 6) if CASES[name] is None else foe(port, name)
    gc.collect()
    before, ticking = peak(), asyncio.create_task(ticker.run())
    began = time.perf_counter()
    await calls()
    seconds = time.perf_counter() - began
    await asyncio.sleep(0.2)
    ticking.cancel()
    grown = peak() - before
    stop.set()
    for task in friends:
        task.cancel()
    blocks = {kind: getattr(ticker, kind) * 1000 for kind in ("late", "work", "collection")}
    return {**blocks, "mb": grown, "seconds": seconds}


def sample(port, name):
    command = [sys.executable, "-W", "ignore", __file__, "--measure", str(port), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except subprocess.TimeoutExpired:
        return {}
    return json.loads(done.stdout)


def shown(value, digits=0):
    return "?" if value is None else f"{value:,.{digits}f}"


def main(names):
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline())
            print(
                "| | longest block, ms | longest work, ms | longest collection, ms | memory, MB | seconds |\n"
                "| --- | ---: | ---: | ---: | ---: | ---: |"
            )
            for name in names or CASES:
                found = sample(port, name)
                row = [shown(found.get(key)) for key in ("late", "work", "collection", "mb")]
                row.append(shown(found["seconds"], 1) if found else f"over {PATIENCE}")
                print(f"| {name} | {' | '.join(row)} |", flush=True)
        finally:
            server.kill()


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if "--serve" in sys.argv:
        asyncio.run(serve())
    elif "--measure" in sys.argv:
        print(json.dumps(asyncio.run(measured(int(sys.argv[2]), sys.argv[3]))))
    else:
        main(sys.argv[1:])
