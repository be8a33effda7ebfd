"""Asking until the answer is what was wanted: a few asks, each a call of its own, with what was wrong told in between.

Pure, like the exchange: whoever drives it sends ``request`` and tells ``take`` of the reply. Told of the same replies
it comes to the same point again, in another process too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from airflow_chat_provider.core.answer.ending import incomplete
from airflow_chat_provider.core.answer.output_schema import OutputSchema, ToolCall, Tools, load_output
from airflow_chat_provider.core.answer.refusal import STEPS_DOWN, Why, why_refused
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.answer.result import incomplete_error, is_mistake, output_error, read_json, unreadable
from airflow_chat_provider.core.errors import ChatCompletionError, IncompleteReply
from airflow_chat_provider.core.json_text.sanitize import sanitize
from airflow_chat_provider.core.messages.conversation import asked_again, conversation_message, with_instruction
from airflow_chat_provider.core.request.schema import Problem
from airflow_chat_provider.core.server.error_body import failed_generation
from airflow_chat_provider.core.server.verdict import CUT_ADVICE

RUNGS = ("json_schema", "json_object", "a prompt alone")
"""How a server is told of a schema: the next where it refuses one."""
_DEEPEST = 8  # levels of a usage that are added up; servers have two
_SHOWN = 16_000  # characters of an answer that are shown again to whoever gave it


class Wanted(NamedTuple):
    """What an answer has to be. ``tools``: calls of the request's tools are checked."""

    schema: OutputSchema | None = None
    tools: bool = False
    retries: int = 1
    result_format: str = "raw"

    @property
    def is_checked(self) -> bool:
        """Is there anything that an answer may fail at?"""
        return self.schema is not None or self.tools or self.result_format in ("json", "tool_calls")

    def to_dict(self) -> dict[str, Any] | None:
        """Plain JSON, from which another process makes the same; None where a class of the caller's is a part of it."""
        if self.schema is not None and self.schema.is_class:
            return None
        return {**self._asdict(), "schema": self.schema.schema if self.schema is not None else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Wanted:
        """What ``to_dict`` described."""
        return cls(**{**values, "schema": load_output(values["schema"])})


class Dialogue:
    """One question to a model. ``rung`` is where to begin on RUNGS."""

    def __init__(self, request: dict[str, Any], wanted: Wanted, rung: int = 0) -> None:
        self.question = request
        self.began = self.rung = rung
        self.by_form = rung
        """The rung that refusals of a form led to: any schema would have been refused so far."""
        self.sends = 1
        self.why = ""
        """Why ``request`` is sent once more, in words that quote nothing of the answer."""
        self._wanted = wanted
        self._tools = Tools(request) if wanted.tools else None
        self._laddered = wanted.schema is not None and request.get("response_format") is None
        self._turns: list[dict[str, Any]] = []
        self._answers = 0
        self._attempts = 0
        self._usage: dict[str, Any] | None = None
        self._refused: tuple[Reply, Why] | None = None
        self._unfit: list[Reply] = []

    @property
    def wanted(self) -> Wanted:
        return self._wanted

    @property
    def request(self) -> dict[str, Any]:
        """What is to be sent now."""
        request = self.question
        if self._laddered and self._wanted.schema is not None:
            request = _told(request, self._wanted.schema, self.rung)
        return asked_again(request, self._turns) if self._turns else request

    @property
    def stepped_down(self) -> bool:
        """Did the server refuse a form of the schema, and take another?"""
        return self._refused is not None and self._answers > 0

    def take(self, reply: Reply) -> Reply | None:
        """The last reply, with its error if it does not fit; None: send ``request`` once more.

        Nothing but MemoryError is raised: whatever goes wrong while an answer is looked at, it is paid for.
        """
        self._attempts += reply.attempts
        try:
            return self._failed(reply) if reply.error is not None else self._judged(reply)
        except BaseException as error:
            if not is_mistake(error):
                raise
            return self._ended(reply, unreadable(reply, error) if reply.error is None else None)

    def _judged(self, reply: Reply) -> Reply | None:
        self._answers += 1
        self._usage = _added(self._usage, reply.body.get("usage"))
        problem = self._problem(reply)
        if problem is None or isinstance(problem, ChatCompletionError):
            return self._ended(reply, problem)
        if self._answers > self._wanted.retries:
            todo = "Raise output_retries, change the prompt, or loosen what is wanted: the answer does not fit"
            after = f" after {self._answers} answers" if self._answers > 1 else ""
            return self._ended(reply, output_error(reply, f"{todo}{after}: {problem.said}"))
        self._unfit.append(reply)
        self._turns = self._correction(reply, problem.told)
        self.sends, self.why = self.sends + 1, f"the answer does not fit: {problem.said}"
        return None

    def _failed(self, reply: Reply) -> Reply | None:
        why = why_refused(reply, self.question)
        if why in (Why.SPOILT, Why.CUT):
            return self._spoilt(reply, why)
        if why not in STEPS_DOWN or not self._laddered:
            return self._ended(reply)
        if self._refused is None or self._refused[1] is Why.FORM:  # at the end, any other complaint says more
            self._refused = reply, why
        if self.rung + 1 == len(RUNGS):  # so it was not the form that it refused
            return self._ended(self._refused[0])
        self.sends, self.why = self.sends + 1, f"the server refuses {RUNGS[self.rung]} (HTTP {reply.status})"
        self.by_form += why is Why.FORM and self.by_form == self.rung
        self.rung += 1
        return None

    def _spoilt(self, reply: Reply, why: Why) -> Reply | None:
        """The server could not use an answer: it counts as one that does not fit, and its error says what was wrong."""
        if not self._wanted.is_checked:
            return self._ended(reply)
        self._answers += 1
        self._usage = _added(self._usage, reply.body.get("usage") if isinstance(reply.body, dict) else None)
        if why is Why.CUT:
            return self._ended(reply, _cut_error(reply))
        if self._answers > self._wanted.retries:
            return self._ended(reply)
        self._unfit.append(reply)
        self._turns = self._correction_of_spoilt(reply.body) or self._turns
        self.sends, self.why = self.sends + 1, f"the server could not use the answer (HTTP {reply.status})"
        return None

    def _ended(self, reply: Reply, error: ChatCompletionError | None = None) -> Reply:
        """The reply as the end of all asks: with the usage of each."""
        if self._answers > 1 and self._usage is not None and isinstance(reply.body, dict):
            body = {**reply.body, "usage": self._usage}
            reply = reply._replace(body=body)
            for one in (error, reply.error):
                if one is not None:
                    one.body = body
        if reply.error is not None:
            reply = after(self._unfit, reply, self._usage)
        return reply._replace(error=error or reply.error, attempts=max(self._attempts, reply.attempts))

    def _problem(self, reply: Reply) -> Problem | ChatCompletionError | None:
        problem = self._misfit(reply)
        if problem is None:
            return None
        reason = incomplete({**reply.body, "choices": reply.body["choices"][:1]})
        return incomplete_error(reply, reason) if reason else problem

    def _misfit(self, reply: Reply) -> Problem | None:
        wanted, message = self._wanted, reply.message
        if self._tools is not None:
            return _problem_of_calls(self._tools, message)
        if wanted.schema is None:
            return None
        if message.get("tool_calls") and wanted.result_format in ("raw", "message"):
            return None  # it asks for a tool before it answers
        found = read_json(reply, {} if self._turns else self.question, may_be_hidden=wanted.result_format == "json")
        return (
            Problem.from_text(f"it is not JSON ({found.where})") if found.where else wanted.schema.problem(found.value)
        )

    def _correction(self, reply: Reply, problem: str) -> list[dict[str, Any]]:
        """The answer, and what is wrong with it; where it holds what is not text or JSON, as a request can hold it."""
        message = sanitize(conversation_message(reply.message))[0]
        if isinstance(message.get("content"), str):
            message["content"] = _shown(message["content"])
        calls = self._tools.calls(message) if self._tools is not None else []
        if calls and len(calls) == len(message.get("tool_calls") or ()) and all(call.id for call in calls):
            return [message, *map(_result_of, calls)]
        message.pop("tool_calls", None)
        message.pop("function_call", None)
        return [{"content": "", **message}, self._complaint(problem)]

    def _correction_of_spoilt(self, body: Any) -> list[dict[str, Any]]:
        """The same for an answer that the server's error shows; empty where it shows none.

        The server's own words are left out: an error does not show what it quotes of a request.
        """
        text = failed_generation(body)
        if not text:
            return []
        problem = (
            "it is not a whole call of a tool" if self._tools is not None else "it is not the JSON that was asked for"
        )
        turns = [{"role": "assistant", "content": _shown(text)}, self._complaint(problem)]
        return list(sanitize(turns)[0])

    def _complaint(self, problem: str) -> dict[str, Any]:
        """What is wrong and how to do better. A server may have ignored response_format: the model has to see it."""
        schema = self._wanted.schema
        if self._tools is not None:
            todo = "Call the tool again."
        elif schema is None or (self._laddered and self.rung > 0):  # the prompt has the schema
            todo = "Answer again, with the whole JSON alone."
        else:
            todo = schema.prompt
        return {"role": "user", "content": f"Your answer does not fit: {problem}. {todo}"}


def after(unfit: list[Reply], reply: Reply, usage: Any = None) -> Reply:
    """A call that failed after answers that did not fit: those are paid for, so they are told of, the last one kept."""
    error = reply.error
    if error is None or not unfit:
        return reply
    ids = ", ".join(str(answer.request_id) for answer in unfit if answer.request_id)
    came = "1 answer came that does" if len(unfit) == 1 else f"{len(unfit)} answers came that do"
    told = f"{error.message}; before it {came} not fit" + (f" (request id {ids})" if ids else "")
    if reply.status is None:
        last = unfit[-1]
        body = {**last.body, "usage": usage} if usage is not None else last.body
        reply = reply._replace(status=last.status, body=body, request_id=last.request_id)
    return reply._replace(error=ChatCompletionError.from_dict({**error.to_dict(), "message": told}))


def _cut_error(reply: Reply) -> ChatCompletionError:
    said = reply.error.message if reply.error is not None else ""
    message = said if said.startswith(CUT_ADVICE) else f"{CUT_ADVICE}: {said}"
    return IncompleteReply(message, status=reply.status, request_id=reply.request_id, body=reply.body)


def _shown(text: str) -> str:
    return text[:_SHOWN] + " [...]" if len(text) > _SHOWN else text


def _told(request: dict[str, Any], schema: OutputSchema, rung: int) -> dict[str, Any]:
    """The request with the schema in the form of a rung."""
    if rung == 0:
        return {**request, "response_format": schema.response_format[0]}
    told = {**request, "messages": with_instruction(request["messages"], schema.prompt)}
    return {**told, "response_format": {"type": "json_object"}} if rung == 1 else told


def _result_of(call: ToolCall) -> dict[str, Any]:
    what = call.problem.told if call.problem is not None else "call it again"
    return {"role": "tool", "tool_call_id": call.id, "content": f"Error: {what}"}


def _problem_of_calls(tools: Tools, message: Mapping[str, Any]) -> Problem | None:
    calls = tools.calls(message)
    if not calls:
        return Problem.from_text("it calls no tool") if tools.needed else None
    problems = [call.problem for call in calls if call.problem is not None]
    if not problems:
        return None
    return Problem("; ".join(one.told for one in problems), "; ".join(one.said for one in problems))


def _added(one: dict[str, Any] | None, other: Any, depth: int = 0) -> dict[str, Any] | None:
    """The sum of two usages, key by key."""
    if not isinstance(other, dict) or depth > _DEEPEST:
        return one
    if one is None:
        return other
    names = (*one, *(key for key in other if key not in one))
    return {key: _sum(one.get(key), other.get(key), depth) for key in names}


def _sum(one: Any, other: Any, depth: int) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return _added(one, other, depth + 1)
    if _counts(one) and _counts(other) and _counts(one + other):
        return one + other
    return other if other is not None else one


def _counts(value: Any) -> bool:
    """Is it a number that XCom keeps: finite, and within 64 bits where it is whole?"""
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is int and -(2**63) <= value < 2**63
