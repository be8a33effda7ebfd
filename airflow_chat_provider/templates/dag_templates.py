"""What the tasks of one DAG share: which texts are templates, how these are parsed, and the files that arguments name.

Templates whose Jinja cannot be read break the import of the DAG. They are parsed for it, not rendered.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

from airflow_chat_provider.airflow_api.compat import literal_module
from airflow_chat_provider.core.errors import InvalidRequest
from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.request.schema import NAMES, load_user_schema
from airflow_chat_provider.templates.failures import first_line

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import DAG, BaseOperator

    from airflow_chat_provider.core.answer.output_schema import OutputSchema

IsTemplate: TypeAlias = Callable[[object], bool]
_MARKERS = {"variable_start_string": "{{", "block_start_string": "{%", "comment_start_string": "{#"}


def markers(options: Mapping[str, Any] | None = None) -> IsTemplate:
    """A function that says whether a leaf is known only once it is rendered.

    :param options: Jinja's options: a DAG's ``jinja_environment_kwargs``, or the attributes of an environment
    """
    given = options or {}
    if given.get("line_statement_prefix") or given.get("line_comment_prefix"):
        return lambda value: isinstance(value, str) or is_reference(value)  # any line of a text may be a statement
    a, b, c = (given.get(name, default) for name, default in _MARKERS.items())
    # Searching for one character is 20 times faster than for two, and most texts do not contain it.
    first = a[:1] if a[:1] == b[:1] == c[:1] else ""

    def is_template(value: object) -> bool:
        if isinstance(value, str):
            return first in value and (a in value or b in value or c in value)
        return is_reference(value)

    return is_template


def is_reference(value: object) -> bool:
    """True for a value that Airflow resolves in a run: an XComArg, the argument of a mapped group, a literal."""
    if type(value) in (dict, list, int, float, bool, type(None)):
        return False
    return not isinstance(value, os.PathLike) and callable(getattr(value, "resolve", None))


def holds_template(value: object, is_template: IsTemplate) -> bool:
    """True if any leaf of ``value`` is a template or a reference."""
    stack, seen = [value], set[int]()  # a value may contain itself: it is refused later, with its place
    while stack:
        item = stack.pop()
        if not isinstance(item, Mapping | list | tuple):
            if is_template(item):
                return True
        elif id(item) not in seen:
            seen.add(id(item))
            stack.extend(item.values() if isinstance(item, Mapping) else item)
    return False


def is_path(text: str) -> bool:
    """True if an argument's text is the path of a file, and not the JSON itself."""
    return text.strip().endswith(".json") and "\n" not in text.strip()


def no_path(argument: str) -> InvalidRequest:
    """The error for data that looks like the path of a file: data must not choose which file is read."""
    return InvalidRequest(
        f"Write the path in {argument} out in the DAG, without a template: {argument}: a text from a template or an "
        "upstream task is data, and no file is read for it",
        path=argument,
        keyword="file",
    )


def read_file(environment: jinja2.Environment, name: str, argument: str) -> tuple[str, Callable[[], bool]]:
    """The text of the file that an argument names, and a function that tells whether the file is still the same.

    Raises InvalidRequest, which tells the places searched.
    """
    from jinja2 import FileSystemLoader, TemplateNotFound

    is_absolute = Path(name).is_absolute()
    loader = FileSystemLoader(Path(name).parent) if is_absolute else environment.loader
    try:
        if loader is not None:
            text, _, is_current = loader.get_source(environment, Path(name).name if is_absolute else name)
            return text, is_current or (lambda: True)
        remedy, why = "Give the task a DAG", "cannot be found without one"
    except UnicodeDecodeError:
        remedy, why = "Save the file as UTF-8", "is not UTF-8"
    except TemplateNotFound:
        remedy, why = "Correct the path", "does not exist" if is_absolute else f"is in none of {_places(environment)}"
    except OSError as error:
        remedy, why = "Make the file readable", f"cannot be read: {error.strerror or error}"
    raise InvalidRequest(f"{remedy}: {argument}: the file {name!r} {why}", path=argument, keyword="file")


def _places(environment: jinja2.Environment) -> str:
    return ", ".join(repr(str(place)) for place in getattr(environment.loader, "searchpath", ()))


_REMEDY = (
    "Correct the template; to send the text as it stands, put it between {{% raw %}} and {{% endraw %}}, or into "
    "literal(...) of {literal}"
)
# Nothing can be wrong with {{ name.name | filter }}, and most templates are no more than that: they need no parser.
_PLAIN = (
    r"(?a)\{\{-?\s*(?!(?:and|else|if|in|is|not|or)\b)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\s*"
    r"(?:\|\s*([a-z_]\w*)\s*)?-?\}\}"
)
_LAST: list[DagTemplates] = []


def templates_of(dag: DAG | None) -> DagTemplates:
    """The templates of a DAG. Those of the last one are kept: a file makes, and a worker runs, one after another."""
    if dag is None:
        return DagTemplates(None)
    if not _LAST or _LAST[0].dag is not dag:
        _LAST[:] = [DagTemplates(dag)]
    return _LAST[0]


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


def output_schema(source: Any, dag: DAG | None) -> OutputSchema | None:
    """The schema that ``response_schema`` gives; None if any answer will do. Raises InvalidRequest."""
    if source is None:
        return None
    from airflow_chat_provider.schema import load_response_schema

    return load_response_schema(opened(source, dag, "response_schema"))


class DagTemplates:
    """The templates and schema files of a DAG. None: of tasks whose DAG may come later, with filters of its own."""

    def __init__(self, dag: DAG | None) -> None:
        self._dag: Callable[[], DAG | None] = (lambda: None) if dag is None else ref(dag)
        self.has_dag = dag is not None
        """False if filters, tests, tags and files are not known yet."""
        self.options = {} if dag is None else dag.jinja_environment_kwargs or {}
        self.is_template = markers(self.options)
        self._readable: set[str] = set()
        self._schemas: dict[tuple[str, str], tuple[Any, Callable[[], bool]]] = {}

    @property
    def dag(self) -> DAG | None:
        """Not kept alive by its templates."""
        return self._dag()

    @cached_property
    def environment(self) -> jinja2.Environment:
        """The DAG's environment. Making one takes 100 times longer than checking a template, and few tasks need it."""
        if (dag := self.dag) is not None:
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
        filters = set(filter(None, re.findall(_PLAIN, source)))
        unknown = self.has_dag and filters and not filters <= self.environment.filters.keys()
        return not unknown and not self.is_template(re.sub(_PLAIN, "", source))

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
