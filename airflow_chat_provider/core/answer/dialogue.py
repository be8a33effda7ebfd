"""A dialogue: calls, each with a correction of the answer before, until an answer fits or no further call is allowed.

A ``Dialogue`` decides and sends nothing, as ``exchange`` does for one call: ``drive`` and ``adrive`` make its calls.
Given the same replies it always reaches the same point, so another process can replay it and go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from airflow_chat_provider.core.answer.output_schema import OutputSchema, ToolCall, Tools, load_output
from airflow_chat_provider.core.answer.refusal import STEPS_DOWN, Why, why_refused
from airflow_chat_provider.core.answer.reply import Reply, incomplete
from airflow_chat_provider.core.answer.result import incomplete_error, is_mistake, output_error, read_json, unreadable
from airflow_chat_provider.core.answer.usage import together
from airflow_chat_provider.core.errors import ChatCompletionError, IncompleteReply
from airflow_chat_provider.core.json_text.writing import sanitize
from airflow_chat_provider.core.messages import asked_again, conversation_message, with_instruction
from airflow_chat_provider.core.request.schema import Problem
from airflow_chat_provider.core.server.error_body import failed_generation
from airflow_chat_provider.core.server.verdict import CUT_ADVICE
from airflow_chat_provider.core.types import JSON, JSONObject, ResultFormat

RUNGS = ("json_schema", "json_object", "a prompt alone")
"""The forms in which a server can be given a schema. Where it refuses one, the dialogue steps down to the next."""
_SHOWN = 16_000  # characters of a wrong answer that are quoted in its correction


class Wanted(NamedTuple):
    """What an answer has to be.

    ``tools``: the answer's calls of tools are checked against the request's. ``retries``: how many answers that do not
    fit are corrected.
    """

    schema: OutputSchema | None = None
    tools: bool = False
    retries: int = 1
    result_format: ResultFormat = "raw"

    @property
    def is_checked(self) -> bool:
        """Can an answer fail to fit at all?"""
        return self.schema is not None or self.tools or self.result_format in ("json", "tool_calls")

    def to_dict(self) -> JSONObject | None:
        """Plain JSON, for ``from_dict`` in another process. None if the schema is a class of the user's."""
        if self.schema is not None and self.schema.is_class:
            return None
        return {**self._asdict(), "schema": self.schema.schema if self.schema is not None else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Wanted:
        """What ``to_dict`` described."""
        return cls(**{**values, "schema": load_output(values["schema"])})


class Dialogue:
    """All calls for one request of a task, and the decision after each whether another one follows.

    ``question`` is the task's request. ``rung`` (an index of RUNGS) is the form in which the server is given the
    schema; ``began`` is the first one that was tried.
    """

    def __init__(self, question: JSONObject, wanted: Wanted, rung: int = 0) -> None:
        self.question = question
        self.wanted = wanted
        self.began = self.rung = rung
        self.by_form = rung
        """The rung that was reached because the server refused forms, and not this one schema."""
        self.call = 1
        """The number of the call that is due, from 1."""
        self._why = ""
        self._tools = Tools(question) if wanted.tools else None
        self._laddered = wanted.schema is not None and question.get("response_format") is None
        self._turns: list[JSONObject] = []
        self._answers = 0
        self._attempts = 0
        self._usage: JSON = None
        self._refused: tuple[Reply, Why] | None = None
        self._unfit: list[Reply] = []
        self.rejected: list[str] = []
        """What was wrong with each answer that was asked for again, for a log: it quotes nothing of the answer."""
        self._key: str | None = None

    @property
    def request(self) -> JSONObject:
        """The request of the call that is due."""
        request = self.question
        if self._laddered and self.wanted.schema is not None:
            request = _with_schema(request, self.wanted.schema, self.rung)
        return asked_again(request, self._turns) if self._turns else request

    @property
    def asking_again(self) -> str:
        """Why another call is due, for a log: it quotes nothing of the answer."""
        most = 1 + self.wanted.retries + (len(RUNGS) - 1 - self.began if self._laddered else 0)
        return f"Asking again (call {self.call} of at most {most}): {self._why}"

    @property
    def stepped_down(self) -> bool:
        """Did the server refuse a form of the schema and then answer to another one?"""
        return self._refused is not None and self._answers > 0

    def take(self, reply: Reply) -> Reply | None:
        """Take the reply to the call that was due; None if another call is.

        Otherwise the reply ends the dialogue. It then has the error of an answer that does not fit, the attempts of all
        calls, and in its body the usage of all answers. Nothing but MemoryError is raised, since whatever goes wrong
        while an answer is examined, it is paid for.
        """
        self._attempts += reply.attempts
        try:
            return self._failed(reply) if reply.error is not None else self._judged(reply)
        except BaseException as error:
            if not is_mistake(error):
                raise
            return self._ended(reply, unreadable(reply, error) if reply.error is None else None)

    def replay(self, replies: Iterable[Reply]) -> Reply | None:
        """Take the replies of earlier calls, oldest first; the one that ends the dialogue, or None if a call is due."""
        final = None
        for reply in replies:
            final = self.take(reply)
        return final

    def _again(self, why: str) -> None:
        self.call, self._why = self.call + 1, why

    def _judged(self, reply: Reply) -> Reply | None:
        self._answers += 1
        self._usage = together(self._usage, reply.body.get("usage"))
        self._key = None
        problem = self._problem(reply)
        if problem is None:
            reply = reply._replace(key=self._key)
        if problem is None or isinstance(problem, ChatCompletionError):
            return self._ended(reply, problem)
        if self._answers > self.wanted.retries:
            many = self._answers > 1
            found = f"none of {self._answers} answers fits; the last" if many else "the answer does not fit"
            todo = "Change the prompt, the schema or output_retries"
            return self._ended(reply, output_error(reply, f"{todo}: {found}: {problem.said}"))
        self._unfit.append(reply)
        self._turns = self._correction(reply, problem.told)
        self.rejected.append(problem.said)
        self._again(f"the answer does not fit: {problem.said}")
        return None

    def _failed(self, reply: Reply) -> Reply | None:
        why = why_refused(reply, self.question)
        if why in (Why.SPOILT, Why.CUT):
            return self._spoilt(reply, why)
        if why not in STEPS_DOWN or not self._laddered:
            return self._ended(reply)
        if self._refused is None or self._refused[1] is Why.FORM:  # any other complaint says more at the end
            self._refused = reply, why
        if self.rung + 1 == len(RUNGS):  # it refused every form, so the form was not the reason
            return self._ended(self._refused[0])
        self._again(f"the server refuses {RUNGS[self.rung]} (HTTP {reply.status})")
        self.by_form += why is Why.FORM and self.by_form == self.rung
        self.rung += 1
        return None

    def _spoilt(self, reply: Reply, why: Why) -> Reply | None:
        """The server made an answer and could not use it: it counts as one that does not fit."""
        if not self.wanted.is_checked:
            return self._ended(reply)
        self._answers += 1
        self._usage = together(self._usage, reply.body.get("usage") if isinstance(reply.body, dict) else None)
        if why is Why.CUT:
            return self._ended(reply, _cut_error(reply))
        if self._answers > self.wanted.retries:
            return self._ended(reply)
        self._unfit.append(reply)
        self._turns = self._correction_of_spoilt(reply.body) or self._turns
        self.rejected.append(f"the server could not use the answer (HTTP {reply.status})")
        self._again(self.rejected[-1])
        return None

    def _ended(self, reply: Reply, error: ChatCompletionError | None = None) -> Reply:
        """The reply as the end of the dialogue."""
        if self._answers > 1 and self._usage is not None and isinstance(reply.body, dict):
            body = {**reply.body, "usage": self._usage}
            reply = reply._replace(body=body)
            for one in (error, reply.error):
                if one is not None:
                    one.body = body
        if reply.error is not None:
            reply = after(self._unfit, reply, self._usage)
        attempts = max(self._attempts, reply.attempts)
        return reply._replace(error=error or reply.error, attempts=attempts, rejected=tuple(self.rejected))

    def _problem(self, reply: Reply) -> Problem | ChatCompletionError | None:
        problem = self._misfit(reply)
        if problem is None:
            return None
        reason = incomplete({**reply.body, "choices": reply.body["choices"][:1]})
        return incomplete_error(reply, reason) if reason else problem

    def _misfit(self, reply: Reply) -> Problem | None:
        wanted, message = self.wanted, reply.message
        if self._tools is not None:
            return _problem_of_calls(self._tools, message)
        if wanted.schema is None:
            return None
        if message.get("tool_calls") and wanted.result_format in ("raw", "message"):
            return None  # the model calls a tool before it answers
        found = read_json(reply, {} if self._turns else self.question, may_be_hidden=wanted.result_format == "json")
        if found.where:
            return Problem.from_text(f"it is not JSON ({found.where})")
        problem, self._key = wanted.schema.judge(found.value)
        return problem

    def _correction(self, reply: Reply, problem: str) -> list[JSONObject]:
        """The answer and what is wrong with it, as the next messages of the request.

        An answer can hold what a request cannot (lone surrogates, NaN): ``sanitize`` replaces it.
        """
        message = sanitize(conversation_message(reply.message))[0]
        if isinstance(message.get("content"), str):
            message["content"] = _shown(message["content"])
        calls = self._tools.calls(message) if self._tools is not None else []
        if calls and len(calls) == len(message.get("tool_calls") or ()) and all(call.id for call in calls):
            return [message, *map(_result_of, calls)]
        message.pop("tool_calls", None)
        message.pop("function_call", None)
        return [{"content": "", **message}, self._complaint(problem)]

    def _correction_of_spoilt(self, body: JSON) -> list[JSONObject]:
        """The same for an answer that stands in the server's error; empty if none does.

        The error's message is left out: it may quote the request.
        """
        text = failed_generation(body)
        if not text:
            return []
        problem = (
            "it is not a whole call of a tool" if self._tools is not None else "it is not the JSON that was asked for"
        )
        turns = [{"role": "assistant", "content": _shown(text)}, self._complaint(problem)]
        return list(sanitize(turns)[0])

    def _complaint(self, problem: str) -> JSONObject:
        """Tell the model what is wrong. The schema is repeated, because the server may have ignored response_format."""
        schema = self.wanted.schema
        if self._tools is not None:
            todo = "Call the tool again."
        elif schema is None or (self._laddered and self.rung > 0):  # then the prompt has the schema
            todo = "Answer again, with the whole JSON alone."
        else:
            todo = schema.prompt
        return {"role": "user", "content": f"Your answer does not fit: {problem}. {todo}"}


def after(unfit: list[Reply], reply: Reply, usage: JSON = None) -> Reply:
    """A call that failed after ``unfit`` answers. They are paid for: its error names them, the last one's body is kept.

    ``usage``: of all answers, where the body is to have it.
    """
    error = reply.error
    if error is None or not unfit:
        return reply
    ids = ", ".join(str(answer.request_id) for answer in unfit if answer.request_id)
    earlier = "1 earlier answer" if len(unfit) == 1 else f"{len(unfit)} earlier answers"
    message = f"{error.message}; {earlier} did not fit" + (f" (request id {ids})" if ids else "")
    if reply.status is None:
        last = unfit[-1]
        body = {**last.body, "usage": usage} if usage is not None else last.body
        reply = reply._replace(status=last.status, body=body, request_id=last.request_id)
    return reply._replace(error=ChatCompletionError.from_dict({**error.to_dict(), "message": message}))


class Talk(Protocol):
    """What can be driven: a Dialogue, or what wraps one."""

    def take(self, reply: Reply) -> Reply | None:
        """The reply if it is the last one; None if another call is due."""


_Talk = TypeVar("_Talk", bound=Talk)


def drive(talk: _Talk, send: Callable[[_Talk], Reply]) -> Reply:
    """Make each call that is due by ``send``; the reply that ends the dialogue. ``talk`` must have one due."""
    while (final := talk.take(send(talk))) is None:
        pass
    return final


async def adrive(
    talk: _Talk,
    send: Callable[[_Talk], Awaitable[Reply]],
    take: Callable[[Reply], Awaitable[Reply | None]] | None = None,
) -> Reply:
    """``drive`` for an event loop. ``take`` stands in for ``talk.take`` where that may hold up the loop."""
    while True:
        reply = await send(talk)
        final = talk.take(reply) if take is None else await take(reply)
        if final is not None:
            return final


def first_form(request: JSONObject, wanted: Wanted) -> JSONObject:
    """The request as a server is asked first of which nothing is known: with the schema in the first of RUNGS."""
    if wanted.schema is None or request.get("response_format") is not None:
        return request
    return _with_schema(request, wanted.schema, 0)


def _cut_error(reply: Reply) -> ChatCompletionError:
    said = reply.error.message if reply.error is not None else ""
    message = said if said.startswith(CUT_ADVICE) else f"{CUT_ADVICE}: {said}"
    return IncompleteReply(message, status=reply.status, request_id=reply.request_id, body=reply.body)


def _shown(text: str) -> str:
    return text[:_SHOWN] + " [...]" if len(text) > _SHOWN else text


def _with_schema(request: JSONObject, schema: OutputSchema, rung: int) -> JSONObject:
    """The request, which gives the server the schema in the form of a rung."""
    if rung == 0:
        return {**request, "response_format": schema.response_format[0]}
    told = {**request, "messages": with_instruction(request["messages"], schema.prompt)}
    return {**told, "response_format": {"type": "json_object"}} if rung == 1 else told


def _result_of(call: ToolCall) -> JSONObject:
    what = call.problem.told if call.problem is not None else "call it again"
    return {"role": "tool", "tool_call_id": call.id, "content": f"Error: {what}"}


def _problem_of_calls(tools: Tools, message: JSONObject) -> Problem | None:
    calls = tools.calls(message)
    if not calls:
        return Problem.from_text("it calls no tool") if tools.needed else None
    problems = [call.problem for call in calls if call.problem is not None]
    if not problems:
        return None
    return Problem("; ".join(one.told for one in problems), "; ".join(one.said for one in problems))
