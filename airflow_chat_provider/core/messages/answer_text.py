"""The text of an answer, and the JSON in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from airflow_chat_provider.core.json_text.nesting import LEVELS, TooDeep, fault, loads

_TEXTS = ("text", "output_text")  # the second is the Responses API's, which gateways have handed on
_FENCE = r"```[a-zA-Z]*"
# What closes a model's thoughts, where its server leaves them in the text. The opening tag is often not there: the
# chat template has written it at the end of the prompt.
_CLOSINGS = (
    "</think>",  # DeepSeek-R1, Qwen3, MiniMax
    "</thinking>",  # Claude's and Nova's habit
    "</thought>",  # Gemini's and Gemma's habit
    "</reasoning>",  # fine-tuned models
    "[/THINK]",  # Magistral
    "</seed:think>",  # Seed-OSS
    "<|channel|>final<|message|>",  # gpt-oss, where the server does not read its channels
    "\u25c1/think\u25b7",  # Kimi-VL
)


def text_of(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list. Thinking and references are left out."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type", "text") in _TEXTS]
    return "".join(text for text in texts if isinstance(text, str))


def parsed(text: str) -> tuple[Any, str | None]:
    """The JSON value in an answer's text and None; or None and why there is no JSON.

    The JSON may follow the model's thoughts, and may stand in a Markdown fence. The reason names a position and quotes
    nothing.
    """
    value, where = _loaded(text)
    for rest in _after_thoughts(text) if where is not None else ():
        found, why = _loaded(rest)
        if why is None:
            return found, None
        where = f"{why}, after its thoughts"
    return value, where


def _loaded(text: str) -> tuple[Any, str | None]:
    try:
        return loads(_unfenced(text)), None
    except json.JSONDecodeError as error:
        return None, "line {1}, column {2} of {0} characters".format(len(text), *fault(error)[1:])
    except TooDeep:
        return None, f"nested too deep: {LEVELS}, in {len(text)} characters"
    except ValueError:
        return None, f"a number with too many digits, in {len(text)} characters"


def _after_thoughts(text: str) -> Iterator[str]:
    """The text after the first closing tag, then after the last: thoughts and answers may quote the tag."""
    found = [(at, tag) for tag in _CLOSINGS if (at := text.find(tag)) >= 0]
    if not found:
        return
    first, tag = min(found)
    last = text.rfind(tag)
    yield text[first + len(tag) :]
    if last != first:
        yield text[last + len(tag) :]


def _unfenced(text: str) -> str:
    """The text inside of the Markdown fence, if there is one.

    A pattern with wildcards would be slow: models repeat newlines.
    """
    fence, _, rest = text.strip().partition("\n")
    return rest.removesuffix("```") if rest.endswith("```") and re.fullmatch(_FENCE, fence.rstrip()) else text
