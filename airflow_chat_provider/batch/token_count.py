"""How many tokens a request has: by its model's encoding where tiktoken has that on this machine, else a guess."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_chat_provider.core.cost.estimate import Estimate

if TYPE_CHECKING:
    from tiktoken import Encoding

    from airflow_chat_provider.core.types import JSONObject

BYTES = "bytes"
"""The name of the guess."""
MODELS = 1000  # different ones that are told apart in one batch
_PLACE = "https://openaipublic.blob.core.windows.net/encodings"
_FILES = {
    "o200k_base": (
        f"{_PLACE}/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        f"{_PLACE}/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
"""The file of each encoding: where tiktoken would download it, and its SHA-256. The first ones are tried first."""
_SAME_FILE = {"o200k_harmony": "o200k_base"}
# OpenAI's cookbook, "How to count tokens with tiktoken": what stands around a message, before a name and the answer.
_A_MESSAGE, _A_NAME, _THE_ANSWER = 3, 1, 3
_GIVEN = ("tools", "functions", "response_format")  # what the model reads beside the messages
_CUT = 100_000  # characters: a longer text is counted in pieces, one token too many for each at worst
_KEPT = 1 << 22  # characters of texts whose counts are kept: the same prompt may be in each row

log = logging.getLogger(__name__)


class Counted(NamedTuple):
    """``by``: the encoding that counted, or BYTES. ``is_exact``: it is the model's own encoding."""

    tokens: int
    by: str
    is_exact: bool


class TokenCount:
    """Counts the tokens that requests have, without their pictures, sounds and files."""

    def __init__(self) -> None:
        self._ways: dict[str, _Way | None] = {}
        self._known: dict[tuple[str, str], int] = {}
        self._kept = 0

    def of(self, request: JSONObject, guess: Estimate) -> Counted:
        """The tokens of a request; ``guess`` is what they are by its bytes."""
        model = request.get("model")
        way = self._way(model) if isinstance(model, str) else None
        if way is None:
            return Counted(guess.input_tokens, BYTES, is_exact=False)
        tokens = sum(self._tokens(way, text) for text in _texts(request))
        return Counted(tokens + _around(request), way.encoding.name, way.is_own)

    def _way(self, model: str) -> _Way | None:
        if model not in self._ways:
            if len(self._ways) >= MODELS:
                self._ways.clear()
            self._ways[model] = _way_for(model)
        return self._ways[model]

    def _tokens(self, way: _Way, text: str) -> int:
        key = (way.encoding.name, text)
        count = self._known.get(key)
        if count is None:
            pieces = (text[at : at + _CUT] for at in range(0, len(text), _CUT))
            count = sum(len(way.encoding.encode_ordinary(piece)) for piece in pieces)
            self._kept += len(text)
            if self._kept > _KEPT:
                self._known.clear()
                self._kept = len(text)
            self._known[key] = count
        return count


class _Way(NamedTuple):
    """``is_own``: tiktoken knows the encoding for the model's. Another one comes closer than a guess by bytes does."""

    encoding: Encoding
    is_own: bool


def _way_for(model: str) -> _Way | None:
    """How to count for a model; None where no encoding is on this machine."""
    try:
        from tiktoken.model import encoding_name_for_model
    except ImportError:  # the extra [tokens] is not installed
        return None
    try:
        own = encoding_name_for_model(model.rpartition("/")[2])  # OpenRouter's names begin with the vendor's
    except KeyError:
        own = ""
    for name in dict.fromkeys((own, *_FILES)):
        if (encoding := _encoding(name)) is not None:
            return _Way(encoding, name == own)
    return None


def _encoding(name: str) -> Encoding | None:
    """An encoding that is in memory or on the disk; None for any other, which tiktoken would download."""
    from tiktoken import get_encoding, registry

    if name in registry.ENCODINGS:
        return registry.ENCODINGS[name]
    if not _is_on_disk(_SAME_FILE.get(name, name)):
        return None
    try:
        return get_encoding(name)
    except Exception as error:  # noqa: BLE001 - a plan with a guess is better than none
        log.warning("tiktoken cannot read its encoding %s (%s)", name, type(error).__name__)
        return None


def _is_on_disk(name: str) -> bool:
    """Does tiktoken have the file of an encoding? One whose content is wrong it would delete, and download anew."""
    url, digest = _FILES.get(name, ("", ""))
    folder = next((os.environ[it] for it in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR") if it in os.environ), None)
    if folder is None:
        folder = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    if not url or not folder:  # an empty name turns its cache off
        return False
    try:
        content = (Path(folder) / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == digest


def _texts(request: JSONObject) -> Iterator[str]:
    """What the model reads, text by text."""
    for message in _messages(request):
        for name, value in message.items():
            yield from _parts(value) if name == "content" else _plain(value)
    for name in _GIVEN:
        yield from _plain(request.get(name))


def _around(request: JSONObject) -> int:
    """The tokens that stand around the texts."""
    messages = list(_messages(request))
    return _THE_ANSWER + sum(_A_MESSAGE + _A_NAME * ("name" in message) for message in messages)


def _messages(request: JSONObject) -> Iterator[Mapping[str, Any]]:
    messages = request.get("messages")
    return (one for one in (messages if isinstance(messages, list) else ()) if isinstance(one, Mapping))


def _parts(content: Any) -> Iterator[str]:
    if not isinstance(content, list):
        yield from _plain(content)
        return
    for part in content:
        if isinstance(part, Mapping):
            yield from (text for name in ("text", "refusal") if isinstance(text := part.get(name), str))


def _plain(value: Any) -> Iterator[str]:
    """A text as it is, anything else as JSON."""
    if isinstance(value, str):
        yield value
    elif value is not None:
        yield json.dumps(value, ensure_ascii=False, separators=(",", ":"))
