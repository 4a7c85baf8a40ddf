"""The names that a class gives to `ctx.effect`, read from its source: an undeclared one is refused when the class is
registered, not when the effect is due (P11). Names that are not literals are checked when they are used.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator


def effect_names(function: object) -> Iterator[tuple[str, int]]:
    """(name, line in the file) of every literal name in a function; nothing where there is no source."""
    try:
        lines, first = inspect.getsourcelines(function)  # pyright: ignore[reportArgumentType]
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return
    contexts = {
        argument.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.arguments)
        for argument in node.args
        if argument.annotation is not None and "Context" in ast.unparse(argument.annotation)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "effect"):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id in contexts):
            continue  # another object's method of that name
        name = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg == "name"), None)
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value, first + node.lineno - 1
