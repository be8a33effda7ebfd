"""Answers of earlier batches: a row whose request one of them has answered takes that answer, and is not asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.batch.files import StoreError, file_error, local_path, readable, stored
from airflow_chat_provider.batch.output.answered import Answered
from airflow_chat_provider.batch.output.lines import REUSED
from airflow_chat_provider.batch.output.reading import folder_of, store_at
from airflow_chat_provider.batch.output.store import IDENTITY, RESULTS, Store, identity_in
from airflow_chat_provider.core.errors import ChatCompletionError, InvalidRequest
from airflow_chat_provider.core.messages import parsed, text_of
from airflow_chat_provider.core.spelling import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_chat_provider.batch.input import Row
    from airflow_chat_provider.batch.output.lines import Shape
    from airflow_chat_provider.core.answer.dialogue import Wanted
    from airflow_chat_provider.core.answer.output_schema import OutputSchema
    from airflow_chat_provider.core.answer.usage import Spending

_ARGUMENT = "reuse"
_SHARD = "shard-"

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """A row's line, and why its answer is incomplete (None: it is complete).

    ``source``: REUSED or SAME_AS if the answer was there already, and the row was not asked for.
    """

    line: bytes
    incomplete: str | None
    source: str | None = None


def kept_as(shape: Shape, wanted: Wanted) -> dict[str, Any]:
    """How a batch keeps its answers, for its identity: a later batch sees there whether they are what it wants."""
    return {
        "result_format": shape.result_format,
        "response_schema": None if wanted.schema is None else wanted.schema.digest,
        "on_incomplete": shape.on_incomplete,
        "response_key": shape.response_key,
    }


class Reuse:
    """What earlier batches have answered. ``load`` reads where each answer lies, before rows are looked up."""

    def __init__(self, folders: object, shape: Shape, wanted: Wanted, own: Store) -> None:
        """Look at the folders. Raises InvalidRequest where one holds no batch, or not what this batch wants."""
        self._shape, self._wanted = shape, wanted
        self._stores: list[Store] = []
        self._keys: list[str] = []
        self._answered: Answered | None = None
        self._useless = 0
        for folder in _folders(folders):
            if _is_same(folder, own):
                log.info("Rows of the batch's own output need not be named in reuse: a batch continues by itself")
                continue
            self._take(folder)

    @property
    def folders(self) -> int:
        """How many folders there are to read."""
        return len(self._stores)

    def _take(self, folder: object) -> None:
        store = store_at(folder, _ARGUMENT)
        with _about_reuse():
            identity = identity_in(store)
            if identity is None:
                why = "holds no batch: name the folder that was the output of an earlier batch"
                raise file_error(_ARGUMENT, folder, why)
            kept = identity.get("answers")
            if not isinstance(kept, dict):
                log.warning(
                    "%s has no digests of its requests (an older version made it), so nothing is reused", folder
                )
                return
            self._check(folder, kept)
            if store.holds(RESULTS):
                key = kept.get("response_key")
                self._stores.append(store)
                self._keys.append(key if isinstance(key, str) else "response")

    def _check(self, folder: object, kept: Mapping[str, Any]) -> None:
        """Raise InvalidRequest if the answers are not what this batch wants."""
        wanted = kept_as(self._shape, self._wanted)
        found = f"leave the folder out: {str(folder)!r} holds answers"
        if kept.get("result_format") != wanted["result_format"]:
            made, asked = kept.get("result_format"), wanted["result_format"]
            raise _misfit(f"Use result_format={made!r}, or {found} with {made!r}, and this batch wants {asked!r}")
        if kept.get("response_schema") != wanted["response_schema"]:
            raise _misfit(f"Use the same response_schema, or {found} for another one")
        is_hidden = wanted["result_format"] != "raw" and kept.get("on_incomplete") == "ignore"
        if is_hidden and wanted["on_incomplete"] != "ignore":
            why = "with on_incomplete='ignore', which does not say which of them are incomplete"
            raise _misfit(f"Use on_incomplete='ignore', or {found} {why}")

    def load(self) -> None:
        """Read the digests. Raises ChatCompletionError where that fails."""
        with _about_reuse():
            self._answered = Answered(self._stores, RESULTS)
        count = plural(self._answered.count, "answer")
        log.info("%s may be reused, from %s", count, plural(len(self._stores), "folder"))
        if self._answered.damaged:
            self._warn_damaged()

    def given(self, row: Row, digest: str, took: Spending) -> Answer | None:
        """The line of a row whose request has an answer; None if there is none. Raises ChatCompletionError.

        ``took``: what the row itself has taken in earlier runs.
        """
        if self._answered is None:
            return None
        damaged = self._answered.damaged
        found = self._answered.find(digest)
        if found is None:
            if self._answered.damaged > damaged == 0:
                self._warn_damaged()
            return None
        key = self._keys[found.store]
        line = self._shape.copied(row, found.line, key, {REUSED: True}, took, digest)
        if line is None or not self._fits(found.line, key):
            self._note_useless(row)
            return None
        return Answer(*line, REUSED)

    def _fits(self, line: Mapping[str, Any], key: str) -> bool:
        """Does the answer still fit? A class may check more than its schema says, and may have changed."""
        schema = self._wanted.schema
        kept = line.get(key, line.get("response"))
        return schema is None or not schema.is_class or _fits(schema, kept, self._shape.result_format)

    def _note_useless(self, row: Row) -> None:
        self._useless += 1
        if self._useless == 1:
            log.warning(
                "Row %s is asked for although its request was answered before: the answer is incomplete or failed, no "
                "longer fits, or its line has another form (logged only once for this batch)",
                row.place,
            )

    def _warn_damaged(self) -> None:
        log.warning("Some lines in the folders of reuse are damaged, so their rows are asked for")

    def close(self) -> None:
        if self._answered is not None:
            self._answered.close()
            self._answered = None


def _fits(schema: OutputSchema, kept: Any, result_format: str) -> bool:
    try:
        is_response = isinstance(kept, dict) and "body" in kept and result_format != "json"
        if is_response or result_format == "message":
            message = kept["body"]["choices"][0]["message"] if is_response else kept
            if message.get("tool_calls"):
                return True  # the model calls a tool before it answers
            kept, result_format = text_of(message.get("content")), "text"
        value, why = parsed(kept) if result_format == "text" else (kept, None)
        return why is None and schema.judge(value)[0] is None
    except Exception:  # noqa: BLE001 - somebody has changed the line; or whatever a class of the user's raises
        return False


def _folders(given: object) -> Iterator[object]:
    """The folders that the argument names, and their shards: there may be none, on a table's first day."""
    several = given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else [given]
    for one in several:
        if isinstance(one, str):
            one = one.strip().rstrip("/") or one.strip()  # noqa: PLW2901
        if one is not None and one != "":
            yield from _with_shards(folder_of(one, _ARGUMENT))


def _with_shards(folder: object) -> list[object]:
    """A folder that holds a batch; or, if it holds the shards of one, their folders."""
    local, names = local_path(folder), list[str]()
    with readable(_ARGUMENT, folder):
        if local is not None:
            if local.is_dir() and not (local / IDENTITY).exists():
                names = [one.name for one in local.iterdir()]
        else:
            there = stored(folder, _ARGUMENT)
            there.fs.invalidate_cache()
            if there.fs.exists(there.path) and not there.fs.exists(f"{there.path.rstrip('/')}/{IDENTITY}"):
                names = [one.rstrip("/").rpartition("/")[2] for one in there.fs.ls(there.path, detail=False)]
    return [f"{str(folder).rstrip('/')}/{name}" for name in sorted(names) if name.startswith(_SHARD)] or [folder]


def _is_same(folder: object, store: Store) -> bool:
    """Is it the folder that the store writes to?"""
    local, own = local_path(folder), local_path(store.name)
    if local is not None and own is not None:
        with readable(_ARGUMENT, folder):
            return local.resolve() == own.resolve()
    return str(folder).rstrip("/") == store.name.rstrip("/")


@contextmanager
def _about_reuse() -> Iterator[None]:
    """Let errors name this argument: what reads a folder takes it for the batch's output."""
    try:
        yield
    except InvalidRequest as error:
        message = error.message.replace("Correct output:", f"Correct {_ARGUMENT}:", 1)
        raise InvalidRequest(message, path=_ARGUMENT, keyword=error.keyword) from None
    except StoreError as error:
        raise ChatCompletionError(error.message.replace("the output", "the folder in reuse", 1)) from None


def _misfit(message: str) -> InvalidRequest:
    return InvalidRequest(message, path=_ARGUMENT, keyword="fingerprint")
