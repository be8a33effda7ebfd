"""Files that go out with a request: which kinds there are, where they stand in it, and how they get into its bytes.

The paths travel beside the request, and only they name files. In the request itself a short text stands where the
content of each file will be: that is what is shown and stored. No content of a message is ever taken for a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.request.json_values import encode
from airflow_chat_provider.core.request.prepare import parse_text
from airflow_chat_provider.core.spelling import with_article
from airflow_chat_provider.core.types import JSONObject

MAX_BYTES = 20_000_000
"""The most bytes that one file may have, unless its task says otherwise."""
HEAD = 1024
"""Bytes at the beginning of a file by which its kind is known."""
ALLOWED = "PNG, JPEG, WebP, GIF, PDF, WAV, MP3, or text (.txt, .md, .csv, .json and their like)"
Form: TypeAlias = Literal["image", "document", "audio", "text"]
_NO_TURN = "Give a prompt: attachments go into the last user message, and there is none"
_MARK = "(attachment)"


class Kind(NamedTuple):
    """A kind of file, and the part of a message that it becomes."""

    form: Form
    media: str
    suffixes: tuple[str, ...]

    def part(self, name: str, data: str) -> JSONObject:
        """``data``: the file in base64, or its text."""
        if self.form == "image":
            return {"type": "image_url", "image_url": {"url": f"data:{self.media};base64,{data}"}}
        if self.form == "document":
            return {"type": "file", "file": {"filename": name, "file_data": f"data:{self.media};base64,{data}"}}
        if self.form == "audio":
            return {"type": "input_audio", "input_audio": {"data": data, "format": self.suffixes[0][1:]}}
        return text_part(f"{name}:\n\n{data}")


_PNG = Kind("image", "image/png", (".png",))
_JPEG = Kind("image", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"))
_WEBP = Kind("image", "image/webp", (".webp",))
_GIF = Kind("image", "image/gif", (".gif",))
_PDF = Kind("document", "application/pdf", (".pdf",))
_WAV = Kind("audio", "audio/wav", (".wav", ".wave"))
_MP3 = Kind("audio", "audio/mpeg", (".mp3",))
_TEXT_SUFFIXES = (
    ".txt .text .md .markdown .rst .csv .tsv .json .jsonl .ndjson .yaml .yml .toml .ini .cfg .xml .html .htm .log .sql "
    ".py .srt .vtt .eml"
)
TEXT = Kind("text", "text/plain", tuple(_TEXT_SUFFIXES.split()))
_BY_SUFFIX = {suffix: kind for kind in (_PNG, _JPEG, _WEBP, _GIF, _PDF, _WAV, _MP3, TEXT) for suffix in kind.suffixes}
_NAMES = {
    _PNG: "a PNG picture",
    _JPEG: "a JPEG picture",
    _WEBP: "a WebP picture",
    _GIF: "a GIF picture",
    _PDF: "a PDF document",
    _WAV: "WAV audio",
    _MP3: "MP3 audio",
    TEXT: "text",
}
_TO_PNG, _TO_TEXT, _TO_WAV = "Save it as PNG", "Save it as PDF or text", "Save it as WAV or MP3"
_UNPACK = "Unpack it, and attach what is in it"
_REMEDIES = {
    **dict.fromkeys((".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".ico", ".psd"), _TO_PNG),
    **dict.fromkeys((".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".odt", ".ods", ".rtf", ".parquet"), _TO_TEXT),
    **dict.fromkeys((".ogg", ".oga", ".opus", ".flac", ".m4a", ".aac", ".wma", ".aiff"), _TO_WAV),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "Attach single pictures, or the sound as WAV or MP3"),
    **dict.fromkeys((".zip", ".gz", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"), _UNPACK),
}
"""What to do about files that no attachment can be, whatever is in them."""


def wrong_file(remedy: str, path: str, problem: str) -> InvalidRequest:
    """The error of a file that cannot be attached."""
    return InvalidRequest(f"{remedy}: the attachment {shown(path)!r} {problem}", path="attachments", keyword="file")


def shown(path: str) -> str:
    """A path for logs, errors and conversations: a URL without a user's name, a password and a query."""
    scheme, mark, rest = path.partition("://")
    if not mark:
        return path
    user, colon, password = re.split("[/?#]", rest, maxsplit=1)[0].partition(":")
    if colon and not password.isdecimal() and "@" in rest and not {"@", "["} & {*user, *password}:
        rest = f"***@{rest.rpartition('@')[2]}"  # a password with one of these characters, and no host before it
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, key = rest.partition("/")
    user, at, bare = host.rpartition("@")
    return f"{scheme}://{f'***@{bare}' if ':' in user else host}{slash}{key}" if at else f"{scheme}://{rest}"


def file_name(path: str) -> str:
    """The last name in a path or URL."""
    return shown(path).rstrip("/").replace("\\", "/").rpartition("/")[2]


def _suffix(path: str) -> str:
    name = file_name(path).lower()
    at = name.rfind(".")
    return name[at:] if at > 0 else ""


def check_name(path: str) -> None:
    """Refuse a file that cannot be attached, whatever is in it. Raises InvalidRequest."""
    suffix = _suffix(path)
    if suffix in _REMEDIES:
        raise wrong_file(_REMEDIES[suffix], path, f"ends in {suffix}, and what can be attached is {ALLOWED}")


def kind_of(path: str, head: bytes) -> Kind:
    """The kind of a file, by its first HEAD bytes and the suffix of its name. Raises InvalidRequest."""
    named, found = _BY_SUFFIX.get(_suffix(path)), _by_content(head)
    if not head:
        raise wrong_file("Attach a file with content", path, "is empty")
    if found is None and named is _MP3 and head[0] == 0xFF and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return _MP3  # without tags, a file begins with a frame, whose first 11 bits are set
    if found is None and named is _PDF and b"%PDF-" in head:
        return _PDF  # some programs write something before it, and readers allow for that
    if found is None and named is TEXT:
        return TEXT
    if found is None and named is None:
        check_name(path)
        raise wrong_file(f"Attach {ALLOWED}", path, "is of a kind that cannot be told from its content or its name")
    if found is None or (named is not None and found is not named):
        holds = f"holds {_NAMES[found]}" if found is not None else "holds something else"
        name = named if named is not None else TEXT
        raise wrong_file("Correct the file or its name", path, f"is named as {_NAMES[name]}, and {holds}")
    return found


def _by_content(head: bytes) -> Kind | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _PNG
    if head.startswith(b"\xff\xd8\xff"):
        return _JPEG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _GIF
    if head.startswith(b"%PDF-"):
        return _PDF
    if head.startswith(b"ID3") and len(head) > 3 and head[3] < 0x10:  # followed by a version: no text has that
        return _MP3
    return {b"WEBP": _WEBP, b"WAVE": _WAV}.get(head[8:12]) if head.startswith(b"RIFF") else None


def paths_of(value: Any, where: str = "attachments") -> list[str]:
    """The argument ``attachments``: a path or a list, with lists in it that its templates gave. Raises InvalidRequest.

    A path is text, a ``pathlib.Path`` or an ``ObjectStoragePath``.
    """
    if isinstance(value, str) or is_path_object(value):
        text = str(value)
        if not text.strip():
            raise InvalidRequest(f"Give {where} a path: it is empty", path=where, keyword="minLength")
        if "\0" in text:
            raise InvalidRequest(f"Correct {where}: a path holds no NUL", path=where, keyword="file")
        return [text]
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [path for index, item in enumerate(value) for path in paths_of(item, f"{where}[{index}]")]
    kind = "None" if value is None else with_article(type(value).__name__)
    raise InvalidRequest(f"{where} must be a path, or a list of paths, not {kind}", path=where, keyword="type")


def is_path_object(value: object) -> bool:
    """Is it a ``pathlib.Path`` or an ``ObjectStoragePath``? Told by what they can do: neither is imported here."""
    return not isinstance(value, str | bytes | type) and hasattr(value, "joinpath") and hasattr(value, "as_posix")


class Attachments(NamedTuple):
    """The files of one request. ``turn``: the user's message that they are in, counted from 1 among the user's."""

    paths: tuple[str, ...] = ()
    max_bytes: int = MAX_BYTES
    turn: int = 0

    def __bool__(self) -> bool:
        return bool(self.paths)

    def __repr__(self) -> str:
        return f"Attachments({', '.join(map(shown, self.paths))})"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Attachments:
        """What ``to_dict`` described."""
        return cls(**{**values, "paths": tuple(values["paths"])}) if values else NO_ATTACHMENTS

    def to_dict(self) -> JSONObject | None:
        """Plain JSON; None if there are no files."""
        return {**self._asdict(), "paths": list(self.paths)} if self.paths else None

    def with_stand_ins(self, request: JSONObject) -> JSONObject:
        """The request with a small part of the right form for each file, to be proved against a schema.

        Raises InvalidRequest if there is no user message for them.
        """
        if not self.paths:
            return request
        if isinstance(messages := request.get("messages"), str):
            request = {**request, "messages": parse_text(messages, "messages")}
        kinds = [_BY_SUFFIX.get(_suffix(path), TEXT) for path in self.paths]
        parts = [kind.part(file_name(path), "AAAA") for kind, path in zip(kinds, self.paths, strict=True)]
        return _with_parts(request, parts, None, 0)

    def noted(self, request: JSONObject) -> tuple[JSONObject, Attachments]:
        """The proved request with the path of each file in place of its stand-in, and the files with their turn."""
        if not self.paths:
            return request, self
        placed = self._replace(turn=sum(map(_is_user, request["messages"])))
        notes = [text_part(f"[attachment: {shown(path)}]") for path in self.paths]
        return placed.filled(request, notes), placed

    def filled(self, request: JSONObject, parts: Sequence[JSONObject]) -> JSONObject:
        """The request with these parts in place of the notes."""
        return _with_parts(request, parts, self.turn, len(self.paths))

    def identity(self, request: JSONObject) -> JSONObject:
        """What tells this request from others, whose files may differ."""
        return {**request, "attachments": list(self.paths)} if self.paths else request


NO_ATTACHMENTS = Attachments()


class Content(NamedTuple):
    """A file that was read. ``pieces`` are base64, or text as it stands between the quotes of a JSON string."""

    kind: Kind
    path: str
    size: int
    pieces: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Content({shown(self.path)!r}, {self.size} bytes)"

    def part(self, data: Any) -> JSONObject:
        return self.kind.part(file_name(self.path), data)


def encoded(request: JSONObject, files: Attachments, contents: Sequence[Content]) -> bytes:
    """``encode``, with the contents of the files: they are joined to the rest as bytes, and never parsed or escaped."""
    mark = _MARK
    while True:
        rest = encode(files.filled(request, [content.part(mark) for content in contents])).split(mark.encode())
        if len(rest) == len(contents) + 1:
            break
        mark += mark  # it stands elsewhere in the request, too
    pieces = [rest[0]]
    for content, after in zip(contents, rest[1:], strict=True):
        pieces += content.pieces
        pieces.append(after)
    return b"".join(pieces)


def quotable(request: JSONObject, files: Attachments, contents: Sequence[Content]) -> JSONObject:
    """The request with the pieces of its files in it, for whoever looks for quotations of them."""
    parts: list[JSONObject] = [{"type": "text", "text": list(content.pieces)} for content in contents]
    return files.filled(request, parts)


def text_part(text: str) -> JSONObject:
    return {"type": "text", "text": text}


def check_turn(messages: object) -> None:
    """Raise InvalidRequest if there is no user message that attachments could go into."""
    if not isinstance(messages, Sequence) or not any(map(_is_user, messages)):
        raise InvalidRequest(_NO_TURN, path="attachments", keyword="prompt")


def _is_user(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "user"


def _with_parts(request: JSONObject, parts: Sequence[JSONObject], turn: int | None, replaced: int) -> JSONObject:
    """The request with ``parts`` at the end of a user message, by default the last, for as many as are ``replaced``."""
    messages = request.get("messages")
    check_turn(messages)
    users = [index for index, message in enumerate(messages or ()) if _is_user(message)]
    at = users[-1 if turn is None else turn - 1]
    messages = list(messages or ())
    message = messages[at]
    own = _parts_of(message.get("content"), at)
    messages[at] = {**message, "content": [*own[: len(own) - replaced], *parts]}
    return {**request, "messages": messages}


def _parts_of(content: object, at: int) -> list[Any]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [text_part(content)]
    if isinstance(content, list | tuple):
        return list(content)
    raise InvalidRequest(
        f"Give the message text or a list of parts: $.messages[{at}].content is {with_article(type(content).__name__)}",
        path=f"$.messages[{at}].content",
        keyword="type",
    )
