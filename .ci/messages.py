"""Every text of the package that a user may read, with its place: errors, warnings, log lines, the help of forms.

A text is a string of three words or more that is neither a docstring nor a regular expression; `{...}` stands for what
is filled in.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "airflow_chat_provider"
SENTENCE = re.compile(r"[A-Za-z{]\S* +\S+ +[^ ]*[A-Za-z}]")
PATTERN = re.compile(r"\(\?|\\[wdsb]|_[a-z]+, ")  # a regular expression, or a table of servers' codes
HINTS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, HINTS) and ast.get_docstring(node, clean=False) is not None:
            skipped.add(node.body[0].value)  # type: ignore[attr-defined]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)  # a docstring of an attribute
        elif isinstance(node, ast.JoinedStr):
            skipped.update(child for child in ast.walk(node) if child is not node and isinstance(child, ast.Constant))
    for node in ast.walk(tree):
        if node in skipped or not isinstance(node, ast.Constant | ast.JoinedStr):
            continue
        text = spoken(node)
        if text and "\n    " not in text and not PATTERN.search(text) and SENTENCE.search(text):
            yield node.lineno, text


def spoken(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(
            spoken(value) if isinstance(value, ast.Constant) else f"{{{named(value)}}}" for value in node.values
        )
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def named(value: ast.expr) -> str:
    return ast.unparse(value.value) if isinstance(value, ast.FormattedValue) else "..."


def main() -> None:
    count = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        found = sorted(texts(ast.parse(path.read_text("utf-8"))))
        if not found:
            continue
        print(f"\n{path.relative_to(PACKAGE)}")
        for line, text in found:
            count += 1
            print(f"{line:5}  {text}")
    print(f"\n{count} texts", file=sys.stderr)


if __name__ == "__main__":
    main()
