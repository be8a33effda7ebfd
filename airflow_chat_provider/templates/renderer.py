"""Rendering as this provider promises it: each leaf once, data never again, types kept, plain text left alone.

Airflow's own rendering passes every string through Jinja, turns every result into text (or, natively, text into Python
values), and logs a template that fails with everything that stands in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_chat_provider.core.paths import step
from airflow_chat_provider.core.request.schema import NAMES
from airflow_chat_provider.templates.dag_templates import holds_template, is_path, is_reference, markers, no_path
from airflow_chat_provider.templates.failures import failing_at, naming_what_is_missing

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes


class Renderer:
    """Renders values in the context of one task's run."""

    def __init__(self, environment: jinja2.Environment, context: Mapping[str, Any]) -> None:
        self.environment = environment
        self.context = naming_what_is_missing(context)
        self.is_template = markers(vars(environment))

    def render(self, value: Any, where: str) -> Any:
        """``value`` with its templates rendered; the same object if it holds none.

        Raises InvalidRequest for a template that fails; ``where`` is the path of ``value``.
        """
        return self._render(value, where) if holds_template(value, self.is_template) else value

    def rows(self, value: Any) -> Any:
        """The argument ``input`` of a batch. A list of rows is data: only the references in it are resolved."""
        if not isinstance(value, list | tuple):
            return self.render(value, "input")
        return [self._render(item, f"input[{i}]") if is_reference(item) else item for i, item in enumerate(value)]

    def request_schema(self, value: Any) -> Any:
        """The argument ``request_schema``, which may be the path of a file only as its author wrote it."""
        rendered = self.render(value, "request_schema")
        return rendered if rendered is value else schema_from_data(rendered)

    def _render(self, value: Any, where: str) -> Any:
        kind = type(value)
        if kind is dict:
            return {key: self._render(item, where + step(key)) for key, item in value.items()}
        if kind is list or kind is tuple:
            return kind(self._render(item, f"{where}[{index}]") for index, item in enumerate(value))
        if is_reference(value):
            with failing_at(where, "", "reference to an upstream task"):
                return value.resolve(self.context)
        if not isinstance(value, str) or not self.is_template(value):
            return value
        source = str(value)  # of a subclass, too
        with failing_at(where, source):
            leaf = Leaf(self.environment, source)
            return leaf.value(leaf.variables(self.context))


def schema_from_data(value: Any) -> Any:
    """A ``request_schema`` from a template or an upstream task: a shipped schema's name or a schema, never a path."""
    if value is None or isinstance(value, Mapping) or value in NAMES:
        return value
    if isinstance(value, str) and not is_path(value):
        return value  # load_schema refuses it by its name
    raise no_path("request_schema")


class Leaf:
    """A template, compiled once. A lone ``{{ expression }}`` keeps the type of its value; anything else is text."""

    def __init__(self, environment: jinja2.Environment, source: str) -> None:
        self._environment = environment
        self._tree = environment.parse(source)
        self._code: jinja2.Template | None = None
        self._lone = _lone_expression(self._tree)

    def may_use(self, name: str) -> bool:
        """True if it reads the variable ``name``, or includes other templates, which nobody looks into."""
        from jinja2 import meta

        includes = any(True for _ in meta.find_referenced_templates(self._tree))
        return includes or name in meta.find_undeclared_variables(self._tree)

    def variables(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The argument of ``value``: the environment's own names and those of ``context``."""
        return {**self._template.globals, **context}

    def value(self, variables: dict[str, Any]) -> Any:
        """The value for these variables, which the caller may change and use again. Data in them is not rendered."""
        from jinja2 import Undefined

        # template.render() would copy Airflow's lazy context key by key; and a native environment evaluates texts.
        template = self._template
        context = self._environment.context_class(self._environment, variables, template.name, template.blocks)
        rendered = template.root_render_func(context)
        if self._lone is None:
            return "".join(map(str, rendered))
        for _ in rendered:
            pass
        value = context.vars["value"]
        if isinstance(value, Iterator):  # from a filter like map: it can be read only once, and may fail while it is
            return list(value)
        return str(value) if isinstance(value, Undefined) else value  # a strict one raises, a lenient one is ""

    @property
    def _template(self) -> jinja2.Template:
        if self._code is None:
            self._code = self._environment.from_string(self._tree if self._lone is None else _assignment(self._lone))
        return self._code


def _assignment(expression: nodes.Expr) -> nodes.Template:
    """``{% set value = expression %}``: the only way to get at the value before it becomes text."""
    from jinja2 import nodes

    return nodes.Template([nodes.Assign(nodes.Name("value", "store", lineno=1), expression, lineno=1)], lineno=1)


def _lone_expression(tree: nodes.Template) -> nodes.Expr | None:
    """The expression of a template that is one ``{{ expression }}`` without text around it."""
    from jinja2 import nodes

    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return None
    inner = tree.body[0].nodes
    return inner[0] if len(inner) == 1 and not isinstance(inner[0], nodes.TemplateData) else None
