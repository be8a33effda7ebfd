"""The first failed rows of each kind: examples for whoever looks at a batch, few however many rows fail."""

from __future__ import annotations

from typing import Any

from airflow_chat_provider.core.json_text.writing import sanitize

_EACH, _KINDS = 3, 20  # rows of a kind, and kinds
_LONGEST = 500  # characters of a message, and of a row's id


class FirstFailures:
    """Rows that have failed and have no answer yet, by the names of ``kind_of``."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[int, dict[str, Any]]] = {}
        self._kind_of: dict[int, str] = {}

    def note(self, kind: str, index: int, own_id: str | None, message: str) -> None:
        """A row failed. What was noted of it before no longer counts."""
        self.forget(index)
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            return
        rows = self._kinds.setdefault(kind, {})
        if len(rows) < _EACH:
            known = {} if own_id is None else {"id": own_id[:_LONGEST]}
            rows[index] = sanitize({"index": index, **known, "message": message[:_LONGEST]})[0]
            self._kind_of[index] = kind

    def forget(self, index: int) -> None:
        """The row is answered now."""
        kind = self._kind_of.pop(index, None)
        if kind is not None:
            del self._kinds[kind][index]
            if not self._kinds[kind]:
                del self._kinds[kind]

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each kind: ``index``, ``id`` if the row has one of its own, and the error's ``message``."""
        return {kind: list(rows.values()) for kind, rows in self._kinds.items()}
