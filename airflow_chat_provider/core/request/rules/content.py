"""What stands in messages: text, images, audio and files. None of it is ever quoted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from airflow_chat_provider.core.request.rules.report import Report, as_dict, as_list, unsure

# Base64 is judged by its two ends: enough to tell a file name, a URL or JSON from data of any size.
_SAMPLE = 64
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*")
_PIECE = 65_536


def check_parts(parts: Sequence[Any], path: str, report: Report) -> None:
    for index, part in enumerate(parts):
        kind = as_dict(part).get("type")
        if kind in ("image_url", "input_audio", "file"):
            holder, place = as_dict(part.get(kind)), f"{path}[{index}].{kind}"
            if kind == "image_url":
                _check_image(holder.get("url"), f"{place}.url", report)
            elif kind == "input_audio":
                _check_audio(holder.get("data"), f"{place}.data", report)
            elif not unsure(part.get(kind)):
                _check_file(holder, place, report)


def may_mention_json(messages: Any) -> bool:
    """Does any text hold "json", or may one? Read in pieces, so that a hit early in a long text ends the search."""
    texts = list(_texts(messages))
    return unsure(*texts) or any(
        "json" in piece.lower() for text in texts if isinstance(text, str) for piece in _pieces(text)
    )


def _texts(messages: Any) -> Iterator[Any]:
    """Each text, and whatever is known only when the task runs."""
    if unsure(messages):
        yield messages
    for message in as_list(messages):
        content = as_dict(message).get("content")
        yield message if unsure(message) else content
        for part in as_list(content):
            yield part if unsure(part) else as_dict(part).get("text")


def _pieces(text: str) -> Iterable[str]:
    # Three letters more than the step, so that a word on the seam is seen.
    return (text[start : start + _PIECE + 3] for start in range(0, len(text), _PIECE))


def _check_image(url: Any, path: str, report: Report) -> None:
    if not isinstance(url, str):
        return
    start = url[:128].lower()
    if start.startswith(("http://", "https://")):
        if report.server.ollama:
            report.warn(
                "image_by_url",
                path,
                "is a web address, and Ollama reads images from data: URIs only",
                "send the image itself as a base64 data: URI",
            )
    elif not (start.startswith("data:image/") and ";base64," in start):
        report.warn(
            "image_url",
            path,
            "is neither an http(s) URL nor a data:image/...;base64 URI",
            "give a URL that the server can fetch, or the image itself as a data URI",
        )


def _check_audio(data: Any, path: str, report: Report) -> None:
    if not isinstance(data, str) or _is_base64(data):
        return
    problem, remedy = "is not base64", "encode the audio itself as base64 text"
    # OpenAI refuses both; Qwen's audio models take nothing else.
    if data[:5].lower() == "data:" or _is_url(data):
        report.refused_by_openai("input_audio_base64", path, problem, remedy)
    else:
        report.error("input_audio_base64", path, problem, remedy)


def _check_file(file: dict[str, Any], path: str, report: Report) -> None:
    data = file.get("file_data")
    if unsure(data, file.get("file_id"), file.get("filename")):
        return
    if file.get("file_id") is None and data is None:
        remedy = "give the file_id of an uploaded file, or filename and file_data"
        report.refused_by_openai("file_source", path, "names no file", remedy)
    elif data is not None:
        _check_file_data(data, f"{path}.file_data", report)
        if file.get("filename") is None:
            problem = "has file_data without filename"
            report.warn("file_name", path, problem, "give the filename, which tells the server the type")


def _check_file_data(data: Any, path: str, report: Report) -> None:
    if not isinstance(data, str):
        return
    header, comma, payload_start = data[:256].partition(";base64,")
    is_data_uri = bool(comma) and header[:5].lower() == "data:"
    if _is_base64(data, skip=len(data[:256]) - len(payload_start) if is_data_uri else 0):
        return
    problem, remedy = "is not base64", "encode the file itself as base64 text or as a data:...;base64 URI"
    if _is_url(data):  # OpenRouter fetches a file by its URL.
        report.refused_by_openai("file_data_base64", path, problem, remedy)
    else:
        report.error("file_data_base64", path, problem, remedy)


def _is_base64(data: str, skip: int = 0) -> bool:
    if len(data) <= skip:
        return False
    end = data[max(skip, len(data) - _SAMPLE) :]
    return bool(_BASE64.fullmatch(data[skip : skip + _SAMPLE]) and _BASE64.fullmatch(end))


def _is_url(data: str) -> bool:
    return "://" in data[:_SAMPLE]
