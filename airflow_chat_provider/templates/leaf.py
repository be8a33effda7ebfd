"""One template: what it needs to know, and its value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes


class Leaf:
    """A template, compiled once. A lone ``{{ expression }}`` keeps the type of its value; anything else is text."""

    def __init__(self, env: jinja2.Environment, source: str) -> None:
        self._env = env
        self._tree = env.parse(source)
        self._code: jinja2.Template | None = None
        self._lone = _lone_expression(self._tree)

    def may_use(self, name: str) -> bool:
        """Does it read the variable ``name``? Of a template that takes in others nobody knows."""
        from jinja2 import meta

        others = any(True for _ in meta.find_referenced_templates(self._tree))
        return others or name in meta.find_undeclared_variables(self._tree)

    def value(self, context: Mapping[str, Any]) -> Any:
        """Its value for ``context``. Data that comes from there is inserted, never rendered."""
        # Not template.render(): Airflow's context is lazy and must not be copied key by key; and not joined natively.
        return self.value_of(self.variables(context))

    def variables(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """What ``value_of`` takes: the environment's own names and those of ``context``."""
        return {**self._template.globals, **context}

    def value_of(self, variables: dict[str, Any]) -> Any:
        """The value for variables that may be changed and used again."""
        from jinja2 import Undefined

        template = self._template
        context = self._env.context_class(self._env, variables, template.name, template.blocks)
        rendered = template.root_render_func(context)
        if self._lone is None:
            return "".join(map(str, rendered))
        for _ in rendered:
            pass
        value = context.vars["value"]
        if isinstance(value, Iterator):  # of a filter like map: it can be read only once, and fails here where it fails
            return list(value)
        return str(value) if isinstance(value, Undefined) else value  # strict: raises; lenient: ""

    @property
    def _template(self) -> jinja2.Template:
        if self._code is None:
            self._code = self._env.from_string(self._tree if self._lone is None else _assignment(self._lone))
        return self._code


def _assignment(expression: nodes.Expr) -> nodes.Template:
    from jinja2 import nodes

    return nodes.Template([nodes.Assign(nodes.Name("value", "store", lineno=1), expression, lineno=1)], lineno=1)


def _lone_expression(tree: nodes.Template) -> nodes.Expr | None:
    from jinja2 import nodes

    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return None
    inner = tree.body[0].nodes
    return inner[0] if len(inner) == 1 and not isinstance(inner[0], nodes.TemplateData) else None
