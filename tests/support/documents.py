"""The code blocks of a Markdown page: what each is, and the file that it belongs into.

A block belongs into the file that the paragraph before it names, or its title does:

    For a DAG in `dags/summary.py`,

    ```python
    ...

So the blocks of a page build on each other. An HTML comment before a block says that it is not run, or only imported:

    <!-- not run: it needs a package that is not installed -->
    <!-- only imported: it reads a bucket -->
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^( *)(`{3,})([\w-]*)(.*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_COMMENT = re.compile(r"<!-- (not run|only imported): (.+?) -->", re.DOTALL)
_FILE = re.compile(r"`([\w./-]+\.(?:py|md|jsonl?|csv|toml|ini|txt|ya?ml))`")
_PYTHON = ("python", "py")
_CONN = re.compile(r"AIRFLOW_CONN_(\w+)=('[^']*'|\"[^\"]*\"|\S+)")
# Where the part of a line ends that is a command of Airflow: at a pipe, a redirection, the next command, a comment.
_END_OF_COMMAND = re.compile(r" (?:\||>|2>|&&|;|#|\\$).*")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    file: str | None
    """Where the page says that it belongs."""
    limit: str | None
    """`not run` or `only imported`."""
    reason: str
    """Why there is a limit."""

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def kind(self) -> str:
        """`test`, `dag` or `script`, of a Python block; otherwise its language."""
        if self.language not in _PYTHON:
            return self.language
        if re.search(r"^(?:async )?def test_", self.text, re.MULTILINE):
            return "test"
        return "dag" if re.search(r"\bDAG\(|^@dag\b", self.text, re.MULTILINE) else "script"

    @property
    def place(self) -> str:
        """The file for it, whether the page names one or not."""
        made_up = re.sub(r"\W+", "_", self.name).lower()
        if self.kind == "test":
            return self.file or f"test_{made_up}.py"
        return self.file or f"dags/{made_up}.py"

    @property
    def connections(self) -> Iterator[str]:
        """The value of each `AIRFLOW_CONN_...` that it sets for this provider."""
        for _, value in _CONN.findall(self.text):
            yield value[1:-1] if value[0] in "'\"" else value

    @property
    def airflow_commands(self) -> Iterator[list[str]]:
        """The arguments of each command of Airflow in a console."""
        joined = self.text.replace("\\\n", " ")
        for line in joined.splitlines():
            if found := re.match(r"\$ (?:\w+=\S+ )*airflow (.+)", line):
                yield shlex.split(_END_OF_COMMAND.sub("", found[1]))


def pages(project: Path) -> list[Path]:
    """README, and every page of the documentation."""
    return [project / "README.md", *sorted((project / "docs").rglob("*.md"))]


def blocks(project: Path, page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    return list(_blocks(page.relative_to(project).as_posix(), page.read_text("utf-8").splitlines()))


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    before: list[str] = []
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if not fence:
            before.append(lines[at])
            at += 1
            continue
        _indent, ticks, language, info = fence.groups()
        end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == ticks), len(lines))
        text = textwrap.dedent("\n".join(lines[at + 1 : end])) + "\n"
        limit, reason = _limit(before)
        yield Block(page, at + 1, language, text, _file(before, info), limit, reason)
        before, at = [], end + 1


def _limit(before: list[str]) -> tuple[str | None, str]:
    """From a comment that only blank lines part from the block."""
    text = "\n".join(before).rstrip()
    found = [comment for comment in _COMMENT.finditer(text) if comment.end() == len(text)]
    return (found[0][1], " ".join(found[0][2].split())) if found else (None, "")


def _file(before: list[str], info: str) -> str | None:
    """From the block's title, or else from the last paragraph before it."""
    if titled := _TITLE.search(info):
        return titled[1]
    text = _COMMENT.sub("", "\n".join(before)).strip()
    named = _FILE.findall(re.split(r"\n\s*\n", text)[-1])
    return named[-1] if named else None
