"""Results as tables, and into the README."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from contenders import ALL

README = Path(__file__).resolve().parent / "README.md"
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"
_NAMES = [contender.name for contender in ALL]
_VERSIONS = (
    "apache-airflow",
    "apache-airflow-providers-openai",
    "apache-airflow-providers-common-ai",
    "apache-airflow-providers-http",
    "httpx",
    "httpx-aiohttp",
    "aiohttp",
    "jsonschema",
)


def markdown(results: dict) -> str:
    tables = [_tasks(results), _data(results)]
    if "triggers" in results:
        tables.append(deferred(results))
    if "bulk" in results:
        tables.append(bulk(results))
    return "\n\n".join([*tables, _where(results)]) + "\n"


def deferred(results: dict) -> str:
    return "\n\n".join([_triggers(results["triggers"]), _triggerer(results["triggerer"])])


def bulk(results: dict) -> str:
    return "\n\n".join([_senders(results["bulk"]), _resumed(results["resumed"])])


def _tasks(results: dict) -> str:
    execute, parse = results["execute"], results["parse"]
    fresh, reply = results["fresh parse"], results["fresh reply"]
    empty = parse["airflow-empty"]
    rows = [
        ("import over `airflow.sdk`, ms / MB", lambda n: f"{_ms(fresh[n]['import_ms'])} / {fresh[n]['import_mb']:.1f}"),
        ("packages that `airflow.sdk` has not loaded", lambda n: str(len(fresh[n]["third_party"]))),
        (f"100 tasks in a DAG file, x empty operators ({_ms(empty)} ms)", lambda n: f"{parse[n] / empty:.1f}"),
        ("the same file in a fresh process, ms", lambda n: _ms(fresh[n]["ms"])),
        (
            f"`execute()` of a new operator, ms; x httpx reused ({_ms(execute['httpx'])} ms)",
            lambda n: f"{_ms(execute[n])}; {execute[n] / execute['httpx']:.1f}",
        ),
        ("first reply of a fresh process, ms", lambda n: _ms(reply[n]["ms"])),
        ("the same over TLS, ms", _optional(results["fresh tls"])),
    ]
    if "scheduler" in results:
        idle = results["scheduler"]["empty"]
        rows.append(
            (f"task in a real Airflow, ms over an empty one ({_ms(idle)})", _over(results["scheduler"], idle)),
        )
    return _table(["", *_NAMES], ([title, *map(cell, _NAMES)] for title, cell in rows))


def _optional(found: dict) -> Callable[[str], str]:
    return lambda name: _ms(found[name]["ms"]) if name in found else "-"


def _over(found: dict, idle: float) -> Callable[[str], str]:
    return lambda name: _ms(found[name] - idle)


def _data(results: dict) -> str:
    checks, rendered = results["validation"], results["templating"]
    rows = [
        ["validation of 1 / 1,000 messages / a 10 MB image, ms", *_each(checks, ("one", "many", "image"))],
        ["templating of 1,000 plain messages / a 10 MB image, ms", *_each(rendered, ("many", "image"))],
        [
            "a stream of 20,000 chunks put together, ms",
            _ms(results["streaming"]["json"]),
            "-",
            _ms(results["streaming"]["ours"]),
        ],
    ]
    return _table(["", "jsonschema, Airflow or json alone", "sketch", "ours"], rows)


def _triggers(found: dict) -> str:
    names = {
        "openai": "an AsyncOpenAI each",
        "http": "HttpTrigger",
        "aiohttp": "one aiohttp session",
        "ours": "ChatCompletionTrigger",
    }
    rows = [
        [names[name], f"{count:,}", _ms(one["cpu_ms"]), f"{one['kb']:.0f}", f"{one['seconds']:.2f}"]
        for name, count in sorted(found, key=lambda key: (list(names).index(key[0]), key[1]))
        for one in [found[name, count]]
    ]
    return _table(["at once on one loop", "calls", "CPU each, ms", "memory each, KB", "seconds in all"], rows)


def _triggerer(found: dict) -> str:
    names = {"http": "HttpTrigger, no journal", "ours": "ChatCompletionTrigger"}
    rows = [
        [f"{names[name]}, prompts of {size}", _ms(one["cpu_ms"]), _ms(one["ms"]), _ms(1e3 / one["ms"])]
        for (name, size), one in found.items()
    ]
    for size in (size for name, size in found if name == "http"):
        ours, http = found["ours", size], found["http", size]
        over = (_ms(ours[what] - http[what]) for what in ("cpu_ms", "ms"))
        rows.append([f"the difference, prompts of {size}", *over, "-"])
    return _table(["one real triggerer", "CPU a call, ms", "time a call, ms", "calls a second"], rows)


def _senders(found: dict) -> str:
    names = {
        "openai": "one AsyncOpenAI",
        "openai-aiohttp": "one AsyncOpenAI over aiohttp",
        "httpx": "one httpx client",
        "httpx-small": "64 httpx clients",
        "httpx-aiohttp": "one httpx client over aiohttp",
        "aiohttp": "one aiohttp session",
        "ours": "ChatCompletionBatchOperator, from file to file",
    }
    rows = (
        [names[name], f"{one['seconds']:.2f}", _ms(one["cpu_ms"]), f"{one['mb']:.0f}"] for name, one in found.items()
    )
    return _table(["2,000 requests, 500 at once", "seconds in all", "CPU each, ms", "memory, MB"], rows)


def _resumed(found: dict) -> str:
    most = max(found)
    rows = (
        [f"{done:,}", f"{one['first']:.1f}", f"{one['seconds']:.1f}" if done == most else "-", f"{one['mb']:.0f}"]
        for done, one in found.items()
    )
    head = ["of 1,000,000 rows done already", "seconds to the first request", "to the last reply", "memory, MB"]
    return _table(head, rows)


def _each(found: dict, sizes: Iterable[str]) -> list[str]:
    alone = "airflow" if "airflow" in found["many"] else "jsonschema"
    return [" / ".join(_ms(found[size][name]) for size in sizes) for name in (alone, "sketch", "ours")]


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _ms(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2g}"


def _where(results: dict) -> str:
    names = [f"{name.removeprefix('apache-airflow-providers-')} {version(name)}" for name in _VERSIONS]
    names.append(f"openai's client {version('openai')}")
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(names)}; {results['seconds'] / 60:.0f} minutes, "
        f"load {os.getloadavg()[2]:.1f}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def write(text: str) -> None:
    """Replace what stands between the README's markers."""
    before, _, rest = README.read_text("utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    README.write_text(f"{before}{_BEGIN}\n{text}{_END}{after}", "utf-8")
