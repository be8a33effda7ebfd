"""Templates whose Jinja cannot be read break the import of the DAG; nothing is compiled, nothing rendered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.airflow_api.compat import literal_module
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.paths import step

if TYPE_CHECKING:
    import jinja2

_REMEDY = (
    "Correct the template; a text that is meant as it stands goes between {{% raw %}} and {{% endraw %}}, or into "
    "literal(...) of {literal}"
)
# Nothing can be wrong with {{ name.name | filter }}, and most templates are no more than that: they need no parser.
_PLAIN = re.compile(
    r"\{\{-?\s*(?!(?:and|else|if|in|is|not|or)\b)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\s*(?:\|\s*([a-z_]\w*)\s*)?-?\}\}",
    re.ASCII,
)


class Syntax:
    """The Jinja of one DAG. ``environment`` makes it, if need be; ``knows_names``: are all filters and tags in it?"""

    def __init__(
        self,
        environment: Callable[[], jinja2.Environment],
        is_template: Callable[[Any], bool],
        options: Mapping[str, Any] | None = None,
        *,
        knows_names: bool = True,
    ) -> None:
        self._environment = environment
        self.is_template = is_template
        self._has_usual_marks = not options
        self._knows_names = knows_names
        self._sound: set[str] = set()

    def check(self, value: Any, where: str) -> None:
        """Check each template in ``value``; raises InvalidRequest, which names the place and the line."""
        for text, place in _texts(value, where):
            if self.is_template(text) and text not in self._sound:
                self._check_text(text, place)
                self._sound.add(text)

    def _check_text(self, source: str, where: str) -> None:
        if self._has_usual_marks and self._is_plain(source):
            return
        from jinja2 import TemplateError

        try:
            self._read(self._environment(), source)
        except (TemplateError, ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits
            if not self._knows_names and "unknown tag" in str(error):
                return
            line = getattr(error, "lineno", None)
            place = f"{where} (line {line})" if line else where
            remedy = _REMEDY.format(literal=literal_module())
            raise InvalidRequest(f"{remedy}: {place}: {_said(error)}", path=where, keyword="template") from None

    def _is_plain(self, source: str) -> bool:
        filters = set(filter(None, _PLAIN.findall(source)))
        unknown = self._knows_names and filters and not filters <= self._environment().filters.keys()
        return not unknown and not self.is_template(_PLAIN.sub("", source))

    def _read(self, env: jinja2.Environment, source: str) -> None:
        from jinja2 import nodes

        tree = env.parse(source)
        if not self._knows_names:
            return
        named = {*(f.name for f in tree.find_all(nodes.Filter)), *(t.name for t in tree.find_all(nodes.Test))}
        if named - env.filters.keys() - env.tests.keys() or tree.find(nodes.Block) is not None:
            env.compile(tree)  # Jinja's own verdict: a name that a condition guards may be unknown


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return next(iter(str(getattr(error, "message", None) or error).splitlines()), "")[:200]


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Each text in ``value`` with its place."""
    if isinstance(value, str):
        yield value, where
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, where + step(str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{where}[{index}]")
