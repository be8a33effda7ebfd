"""Which store a folder is, and which batch it belongs to."""

from __future__ import annotations

import uuid
from typing import Any

from airflow_chat_provider.batch.files import check_folder, file_error, local_path
from airflow_chat_provider.batch.output.local import LocalStore
from airflow_chat_provider.batch.output.object_store import ObjectStore
from airflow_chat_provider.batch.output.store import (
    ERRORS,
    IDENTITY,
    KEPT_FOR,
    MANIFEST,
    OWNER,
    RESULTS,
    Store,
    read_own,
)

_FOREIGN = "belongs to something else; name another folder"


def store_for(output: object, *, part_rows: int, part_seconds: float, in_flight: int, file_mode: int | None) -> Store:
    """The store of a folder; it is not open yet. ``in_flight``: how many answers may come once it has no more room."""
    check_folder(str(output))
    local = local_path(output)
    if local is not None:
        return LocalStore(local, in_flight, file_mode)
    return ObjectStore(output, part_rows, part_seconds)


def identity_in(store: Store) -> dict[str, Any] | None:
    """What the folder says about the batch in it: {"id", "fingerprint", ...}. None where it holds no batch.

    Raises InvalidRequest where the folder holds something else.
    """
    content = store.read(IDENTITY)
    if content is None:
        if store.holds(RESULTS) or store.holds(ERRORS) or store.read(MANIFEST) is not None:
            raise file_error("output", store.where(RESULTS), "was not written by a batch; name another folder")
        owner = store.read(OWNER)
        if owner is not None and read_own(owner) is None:
            raise file_error("output", store.where(OWNER), _FOREIGN)
        return None
    found = read_own(content)
    if found is None or not isinstance(found.get("id"), str) or not isinstance(found.get("fingerprint"), dict):
        raise file_error("output", store.where(IDENTITY), _FOREIGN)
    return found


def new_identity(fingerprint: dict[str, str], rows: int) -> dict[str, Any]:
    """The file that marks a folder as one batch's."""
    return {"kept_for": KEPT_FOR, "version": 1, "id": uuid.uuid4().hex, "rows": rows, "fingerprint": fingerprint}
