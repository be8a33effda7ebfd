"""How requests are put together, rule by rule, and what a case of a rule is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

OPENAI = "https://api.openai.com/v1"
AZURE = "https://ours.openai.azure.com/openai/v1"
VLLM = "http://vllm.internal:8000/v1"
DASHSCOPE = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
GROQ = "https://api.groq.com/openai/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
MISTRAL = "https://api.mistral.ai/v1"
DEEPSEEK = "https://api.deepseek.com/v1"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
MOONSHOT = "https://api.moonshot.ai/v1"
OLLAMA = "http://localhost:11434/v1"

HI = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
DEVELOPER = {"role": "developer", "content": "Be brief."}
EMPTY = {"type": "object", "properties": {}}


def request(*messages: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages) or [HI], **parameters}


def talk(*messages: dict[str, Any]) -> dict[str, Any]:
    return request(HI, *messages)


def call(call_id: str = "c1", name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(made)}


def answer(call_id: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "42"}


def parts(*content: dict[str, Any]) -> dict[str, Any]:
    return request({"role": "user", "content": list(content)})


def image(url: str) -> dict[str, Any]:
    return parts({"type": "image_url", "image_url": {"url": url}})


def file(**values: Any) -> dict[str, Any]:
    return parts({"type": "file", "file": values})


def tool(name: str = "f", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def custom(name: str = "c", **values: Any) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": name, **values}}


def tools(*offered: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return request(tools=list(offered), **parameters)


def takes(parameters: dict[str, Any], **function: Any) -> dict[str, Any]:
    return tools(tool(parameters=parameters, **function))


def choice(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, kind: {"name": name}}


def allowed(*named: dict[str, Any]) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": list(named)}}


def json_schema(**values: Any) -> dict[str, Any]:
    return request(response_format={"type": "json_schema", "json_schema": values})


def strict(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], **schema}


@dataclass(frozen=True)
class Case:
    """``kind`` "closed": an error here, and a warning for who says that it is wanted.

    "openai": an error at OpenAI, a warning elsewhere; "openai alone": the same, and nothing at a server that is known
    to be another.
    """

    kind: Literal["closed", "warning", "openai", "openai alone"]
    rule: str
    path: str
    breaks: dict[str, Any]
    passes: dict[str, Any]
    at: str | None = None


C: Literal["closed"] = "closed"
W: Literal["warning"] = "warning"
O: Literal["openai"] = "openai"  # noqa: E741
A: Literal["openai alone"] = "openai alone"
