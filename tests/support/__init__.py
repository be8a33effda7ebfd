"""What several test files share."""

import json
from pathlib import Path
from typing import Any


def cases(name: str) -> list[dict[str, Any]]:
    """The lines of a JSON Lines file that lies here."""
    return [json.loads(line) for line in (Path(__file__).parent / name).read_text("utf-8").splitlines()]
