"""Where lines go that the output does not take: paid for, they must not be lost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


class Spill:
    """A file on this machine, made when it is needed. ``path`` says where, for the error."""

    def __init__(self) -> None:
        self.path: Path | None = None

    def keep(self, lines: Iterable[bytes]) -> None:
        if self.path is None:
            file, name = tempfile.mkstemp(prefix="chat-batch-", suffix=".jsonl")
            os.close(file)
            self.path = Path(name)
        with self.path.open("ab") as spilled:
            spilled.writelines(lines)
