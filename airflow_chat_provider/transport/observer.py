"""What Airflow's metrics and traces are told of a call, wherever it is made. A call that is watched never fails for it.

with watched(settings, request) as watch:  # NOBODY if both are off
    ...                                    # watch.sends and watch.came with each attempt
    watch.ended(reply)
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import cache, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from airflow_chat_provider.airflow_api import compat
from airflow_chat_provider.core.answer.reply import Reply
from airflow_chat_provider.core.errors import kind_of
from airflow_chat_provider.transport import metrics
from airflow_chat_provider.transport.aside import aside

if TYPE_CHECKING:
    from airflow_chat_provider.core.call.steps import Response, Send
    from airflow_chat_provider.core.connection.settings import Settings
    from airflow_chat_provider.core.errors import ChatCompletionError, TransportError
    from airflow_chat_provider.core.types import JSONObject
    from airflow_chat_provider.transport import spans

log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T", "_Observer", "Group")


class Watch:
    """Whoever watches a call. This one does nothing with what it is told."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The call is over, even if it was not told how it ended."""

    def sends(self, step: Send) -> None:
        """An attempt begins."""

    def came(self, outcome: Response | TransportError | None, error: ChatCompletionError | None) -> None:
        """An attempt has ended; ``error`` is what was found wrong with it."""

    def ended(self, reply: Reply) -> None:
        """The call came to this."""


NOBODY = Watch()


def watched(settings: Settings, request: JSONObject, sums: metrics.Sums | None = None, *, row: bool = False) -> Watch:
    """A watch over one call.

    ``row``: it is one of a batch's, whose counts go into ``sums``, and which has a span only if the user wants one.
    """
    _set_up()
    traced = _is_traced() and (not row or _wants_rows())
    if not traced and metrics.backend() is None:
        return NOBODY
    return _Observer(settings, request, sums, traced=traced)


@cache
def _wants_rows() -> bool:
    from airflow_chat_provider.transport import spans

    return spans.options().rows


@cache
def _is_traced() -> bool:
    try:
        if not compat.has_traces():
            return False
        from airflow_chat_provider.transport import spans

        return spans.tracer() is not None
    except Exception as error:  # noqa: BLE001 - a call does not fail for its traces
        _warn(type(error).__name__)
        return False


def traceparent() -> str | None:
    """The span that the calls of this task belong under, for whoever makes them elsewhere; None without traces."""
    if not _is_traced():
        return None
    try:
        from airflow_chat_provider.transport import spans

        return spans.traceparent()
    except Exception as error:  # noqa: BLE001 - as above
        _warn(type(error).__name__)
        return None


def under(parent: str | None) -> contextlib.AbstractContextManager[None]:
    """Put the spans of what runs inside under ``parent``, if traces are on here."""
    if not parent or not _is_traced():
        return contextlib.nullcontext()
    from airflow_chat_provider.transport import spans

    return spans.under(parent)


async def get_ready() -> None:
    """Set up metrics and traces where the loop does not wait for it: names may be looked up, and much be imported."""
    if not _set_up.cache_info().currsize:
        await aside(_set_up)


@cache
def _set_up() -> None:
    """Before a call is made: once its answer is here, that is paid for, and has to be stored soon."""
    _is_traced()
    metrics.warm_up()


def _harmless(tell: Callable[Concatenate[_T, _P], None]) -> Callable[Concatenate[_T, _P], None]:
    """A method that raises nothing. After its first error the span is given up."""

    @wraps(tell)
    def told(self: _T, /, *args: _P.args, **arguments: _P.kwargs) -> None:
        try:
            tell(self, *args, **arguments)
        except Exception as error:  # noqa: BLE001 - an exporter or a backend of the user's may raise anything
            self._span = None
            _warn(type(error).__name__)

    return told


@cache
def _warn(why: str) -> None:
    """Once in a process for each kind of error."""
    log.warning("Check Airflow's settings for metrics and traces: a call could not be told of (%s)", why)


class _Observer(Watch):
    def __init__(self, settings: Settings, request: JSONObject, sums: metrics.Sums | None, *, traced: bool) -> None:
        self._settings = settings
        self._model = request.get("model")
        self._sums = sums
        self._began = time.monotonic()
        self._reply: Reply | None = None
        self._attempts = 0
        self._status: int | None = None
        self._span: spans.CallSpan | None = None
        if traced:
            self._begin(request)

    @_harmless
    def _begin(self, request: JSONObject) -> None:
        from airflow_chat_provider.transport import spans

        self._span = spans.CallSpan(self._settings, request)

    def sends(self, step: Send) -> None:
        self._attempts += 1
        if self._span is not None:
            self._trace_attempt(step.attempt)

    @_harmless
    def _trace_attempt(self, attempt: int) -> None:
        if self._span is not None:
            self._span.sends(attempt)

    def came(self, outcome: Response | TransportError | None, error: ChatCompletionError | None) -> None:
        if outcome is not None:
            self._status = outcome.status
        if self._span is not None:
            self._trace_end_of_attempt(None if error is None else kind_of(error))

    @_harmless
    def _trace_end_of_attempt(self, kind: str | None) -> None:
        if self._span is not None:
            self._span.came(self._status, kind)

    def ended(self, reply: Reply) -> None:
        self._reply = reply

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reply is not None:
            failure = self._reply.error
            self._tell(self._reply, None if failure is None else kind_of(failure))
        elif self._attempts:  # it was stopped, or a caller has no use for the rest of a stream
            self._tell(None, None if kind is None or kind is GeneratorExit else kind.__name__)
        else:
            self._trace_end(None, None if kind is None else kind.__name__)

    def _tell(self, reply: Reply | None, kind: str | None) -> None:
        self._count(reply, kind)
        if self._span is not None:
            self._trace_end(reply, kind)

    def _count(self, reply: Reply | None, kind: str | None) -> None:
        if metrics.backend() is None:
            return
        known = reply or Reply(self._status, None, seconds=time.monotonic() - self._began)
        sums = self._sums or metrics.Sums(self._settings.conn_id)
        try:
            sums.note(self._model, known, self._attempts, kind)
        except Exception as error:  # noqa: BLE001 - whatever was in the answer, it is paid for
            _warn(type(error).__name__)
        if self._sums is None:
            sums.flush()

    @_harmless
    def _trace_end(self, reply: Reply | None, kind: str | None) -> None:
        if self._span is not None:
            self._span.end(reply, self._attempts, kind)


class Group:
    """Encloses many calls in a span of their own, which gets ``counts()`` at its end; nothing without traces.

    ``error`` is what went wrong, unless it is raised.
    """

    error: BaseException | None = None

    def __init__(self, name: str, settings: Settings, counts: Callable[[], Mapping[str, Any]]) -> None:
        self._name = name
        self._settings = settings
        self._counts = counts
        self._span: spans.GroupSpan | None = None

    def __enter__(self) -> Self:
        if _is_traced():
            self._begin()
        return self

    @_harmless
    def _begin(self) -> None:
        from airflow_chat_provider.transport import spans

        self._span = spans.GroupSpan(self._name, self._settings)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error or self.error)

    @_harmless
    def _end(self, error: BaseException | None) -> None:
        if self._span is not None:
            self._span.end(self._counts, None if error is None else kind_of(error))
