"""What the tasks of one DAG share: the Jinja in which their texts are templates, and the schema files that they name.

Templates whose Jinja cannot be read break the import of the DAG. They are parsed for it, not rendered.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import ref

from airflow_chat_provider.airflow_api.compat import literal_module
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.request.schema import NAMES, load_user_schema
from airflow_chat_provider.templates.failures import first_line
from airflow_chat_provider.templates.files import is_path, read_file
from airflow_chat_provider.templates.markers import markers

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import DAG, BaseOperator

_REMEDY = (
    "Correct the template; to send the text as it stands, put it between {{% raw %}} and {{% endraw %}}, or into "
    "literal(...) of {literal}"
)
# Nothing can be wrong with {{ name.name | filter }}, and most templates are no more than that: they need no parser.
_PLAIN = re.compile(
    r"\{\{-?\s*(?!(?:and|else|if|in|is|not|or)\b)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\s*(?:\|\s*([a-z_]\w*)\s*)?-?\}\}",
    re.ASCII,
)
_LAST: list[tuple[Callable[[], DAG | None], DagTemplates]] = []


def templates_of(dag: DAG | None) -> DagTemplates:
    """The templates of a DAG. Those of the last one are kept: a file makes, and a worker runs, one after another."""
    if dag is None:
        return DagTemplates(None)
    if not _LAST or _LAST[0][0]() is not dag:
        _LAST[:] = [(ref(dag), DagTemplates(dag))]
    return _LAST[0][1]


def dag_of(task: BaseOperator) -> DAG | None:
    """The task's DAG; None if it has none."""
    return task.get_dag() if task.has_dag() else None  # type: ignore[no-untyped-call]


def opened(value: Any, dag: DAG | None, argument: str) -> Any:
    """The schema in the file that ``value`` names; any other value of the argument as it is.

    Without a DAG there is no place to look in: then whoever loads the schema reads the path as it is. Raises
    InvalidRequest, which tells the places searched, or what is wrong with the schema.
    """
    if dag is None or not isinstance(value, str | os.PathLike) or value in NAMES:
        return value
    name = str(value).strip()
    if argument == "request_schema" and not is_path(name):
        return value  # load_schema refuses it by its name
    return templates_of(dag).schema(name, argument)


class DagTemplates:
    """The templates and schema files of a DAG. None: of tasks whose DAG may come later, with filters of its own."""

    def __init__(self, dag: DAG | None) -> None:
        self._dag = None if dag is None else ref(dag)
        self.options = {} if dag is None else dag.jinja_environment_kwargs or {}
        self.is_template = markers(self.options)
        self._readable: set[str] = set()
        self._schemas: dict[tuple[str, str], tuple[Any, Callable[[], bool]]] = {}

    @property
    def has_dag(self) -> bool:
        """False if filters, tests, tags and files are not known yet."""
        return self._dag is not None

    @cached_property
    def environment(self) -> jinja2.Environment:
        """The DAG's environment. Making one takes 100 times longer than checking a template, and few tasks need it."""
        dag = self._dag() if self._dag is not None else None
        if dag is not None:
            return dag.get_template_env(force_sandboxed=True)
        from jinja2.sandbox import SandboxedEnvironment

        return SandboxedEnvironment()

    def schema(self, name: str, argument: str) -> Any:
        """The JSON Schema in a file, found to be one. It is read once, and again only if the file has changed."""
        schema, is_current = self._schemas.get((name, argument), (None, None))
        if is_current is None or not is_current():
            text, is_current = read_file(self.environment, name, argument)
            load_user_schema(text, name, argument)  # raises for what is wrong with it
            schema = json.loads(text)
            self._schemas[name, argument] = schema, is_current
        return schema

    def check(self, value: Any, where: str) -> None:
        """Check the Jinja of each template in ``value``. Raises InvalidRequest, which names the place and the line."""
        for text, place in _texts(value, where):
            if self.is_template(text) and text not in self._readable:
                self._check_text(text, place)
                self._readable.add(text)

    def _check_text(self, source: str, where: str) -> None:
        if not self.options and self._is_plain(source):
            return
        from jinja2 import TemplateError

        try:
            self._parse(source)
        except (TemplateError, ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits
            if not self.has_dag and "unknown tag" in str(error):
                return
            line = getattr(error, "lineno", None)
            place = f"{where} (line {line})" if line else where
            why = "it is nested too deep" if isinstance(error, RecursionError) else first_line(error)
            remedy = _REMEDY.format(literal=literal_module())
            raise InvalidRequest(f"{remedy}: {place}: {why}", path=where, keyword="template") from None

    def _is_plain(self, source: str) -> bool:
        filters = set(filter(None, _PLAIN.findall(source)))
        unknown = self.has_dag and filters and not filters <= self.environment.filters.keys()
        return not unknown and not self.is_template(_PLAIN.sub("", source))

    def _parse(self, source: str) -> None:
        from jinja2 import nodes

        env = self.environment
        tree = env.parse(source)
        if not self.has_dag:
            return
        named = {*(f.name for f in tree.find_all(nodes.Filter)), *(t.name for t in tree.find_all(nodes.Test))}
        if named - env.filters.keys() - env.tests.keys() or tree.find(nodes.Block) is not None:
            env.compile(tree)  # Jinja's own verdict: a name that a condition guards may be unknown


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
