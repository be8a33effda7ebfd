"""Errors that are not refusals of the request: the model answered, and the server could not use that one answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_chat_provider.core.server.verdict import http_status

ADVICE = "Ask again (see output_retries) or change the prompt: the server could not use this one answer of the model"
CUT_ADVICE = "Raise the token limit: the server could not use this answer of the model, which the limit cut off"

# The error's code or type, and the server that was seen to send it.
_CODES = frozenset(
    {
        "json_validate_failed",  # Groq: not JSON, or JSON that does not fit the schema
        "tool_use_failed",  # Groq: no call of a tool that was offered
        "output_parse_failed",  # Groq's gpt-oss
        "malformed_function_call",  # Gemini's finish reason, by gateways
    }
)
_WORDS = re.compile(
    r"failed_generation|json_validate_failed|tool_use_failed|output_parse_failed"  # Groq, in a gateway's words
    r"|failed to (?:generate (?:valid )?json|validate json|call a function)"  # Groq
    r"|generated json does not match|tool call validation failed"  # Groq
    r"|tool choice is (?:none|required), but (?:the )?model|model did not call (?:a|any) (?:tool|function)"  # Groq
    r"|model generated output that could not be parsed"  # Groq
    r"|no valid (?:tool call or response|response or tool call) generated"  # Cohere, with 422
    r"|(?:model|it) (?:did not|failed to) (?:produce|generate|return|output) (?:a )?valid (?:json|tool|function)"
    r"|model produced (?:invalid (?:content|json|output)|output that does not match)"  # OpenAI, llama.cpp
    r"|failed to parse (?:the )?(?:tool|function)[ _]call|invalid[ _]tool[ _](?:output|generation)"
    r"|malformed function call"
    r"|server could not use this (?:one )?answer",  # our own advice
    re.IGNORECASE,
)
_CUT = re.compile(r"max\w{0,6} (?:completion |output )?tokens (?:was |were )?(?:reached|exceeded)", re.IGNORECASE)
_LOOKED_AT = 16_000  # characters


def judged_status(status: int, code: Any) -> int:
    """The HTTP status of an error, or the one that its code is where the error came with a 2xx."""
    return (http_status(str(code).lower()) or status) if 200 <= status < 300 else status


def is_spoilt(codes: frozenset[str], message: str) -> bool:
    """Does an error of this code and type (lower case), in these words, blame one answer of the model?"""
    return bool(codes & _CODES or _WORDS.search(message[:_LOOKED_AT]))


def blames_answer(status: int | None, code: Any, message: str) -> bool:
    """The same of an error as it is told to the user."""
    return judged_status(status or 0, code) < 500 and is_spoilt(frozenset(), message)


def is_cut(message: str, body: Any) -> bool:
    """Was a spoilt answer cut off by the token limit? Another one would be, too."""
    return bool(_CUT.search(message[:_LOOKED_AT]) or _CUT.search(failed_generation(body)[:_LOOKED_AT]))


def failed_generation(body: Any) -> str:
    """The answer that could not be used, where the server shows it."""
    if isinstance(body, list) and body:
        body = body[0]
    inner = body.get("error") if isinstance(body, Mapping) else None
    found = inner.get("failed_generation") if isinstance(inner, Mapping) else None
    return found if isinstance(found, str) else ""
