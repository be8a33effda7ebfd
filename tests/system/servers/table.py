"""The table of servers and features, as the run fills it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.system.servers.catalogue import SERVERS

PROJECT = Path(__file__).parents[3]

PREFACE = """\
# Servers that the provider was tried against

`make test-servers` writes this page. It starts each server on this machine and asks it for the same things twice: with
this provider, by real tasks of a real Airflow, and with a client that knows nothing of it. Both have to get the same.

- **yes**: the server does it, and the task has what the server sent;
- **no**: the server does not offer it, and the task ends as it should then; what the server said stands below;
- **red**: the provider did not do what it should.
"""


@dataclass
class Cell:
    state: str
    note: str = ""


@dataclass
class Table:
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    features: list[str] = field(default_factory=list)

    def put(self, server: str, feature: str, cell: Cell) -> None:
        if feature not in self.features:
            self.features.append(feature)
        self.cells[server, feature] = cell

    def markdown(self) -> str:
        servers = [name for name in SERVERS if name in self.versions]
        titles = [f"{SERVERS[name].title} {self.versions[name]}" for name in servers]
        lines = [PREFACE, *_rows(["Feature", *titles])]
        for feature in self.features:
            cells = [self.cells.get((name, feature), Cell("-")).state for name in servers]
            lines.append(_row([feature, *cells]))
        for name in servers:
            lines += ["", f"## {SERVERS[name].title} {self.versions[name]}", "", _sentence(SERVERS[name].what), ""]
            lines += self._notes(name)
        if self.missing:
            lines += ["", "## Left out", ""]
            lines += [f"- {SERVERS[name].title}: {why}" for name, why in self.missing.items()]
        return "\n".join(lines) + "\n"

    def _notes(self, server: str) -> list[str]:
        found = ((feature, self.cells.get((server, feature))) for feature in self.features)
        return [f"- {feature}, {cell.state}: {_plain(cell.note)}" for feature, cell in found if cell and cell.note]


def _rows(head: list[str]) -> list[str]:
    return [_row(head), _row(["---"] * len(head))]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _plain(text: str) -> str:
    """A server's words may hold anything: here they are text on one line, without the machine's own paths."""
    text = text.replace(f"{PROJECT}/", "")
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
