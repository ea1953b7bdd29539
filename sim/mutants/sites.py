"""Every single edit of the hardware's sources that the campaign may try."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_HARDWARE = ("Value", "Signal", "Operator")  # what functions beside `elaborate` return
_SOFTWARE = ("config.py", "times.py", "assertion.py")  # files of which no hardware is made


@dataclass(frozen=True)
class Mutant:
    """One edit: in `path` (below `hw/`) the text from `start` to `end`, counted in bytes, becomes `new`."""

    path: str
    line: int
    function: str
    kind: str
    old: str
    new: str
    occurrence: int
    """Of the same edit in the same function, counted from 0."""
    start: int
    end: int

    @property
    def name(self) -> str:
        """Stable while the function keeps the expression."""
        parts = (self.path, self.function, self.kind, self.old, self.new, str(self.occurrence))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]

    def applied(self, source: bytes) -> bytes:
        """The file with the edit."""
        return source[: self.start] + self.new.encode() + source[self.end :]


def sites(root: Path) -> list[Mutant]:
    """Every mutant of the sources below the folder `hw`, in the order of the files."""
    return [
        mutant for path in sorted(root.rglob("*.py")) if path.name not in _SOFTWARE for mutant in of_file(root, path)
    ]


def of_file(root: Path, path: Path) -> Iterator[Mutant]:
    """Every mutant of one file."""
    source = path.read_bytes()
    lines = [0]
    for line in source.split(b"\n"):
        lines.append(lines[-1] + len(line) + 1)
    seen: dict[tuple[str, ...], int] = {}
    for function, body in _functions(ast.parse(source)):
        for node, kind, new in _edits(body):
            start, end = lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[operator]
            old = source[start:end].decode()
            key = (function, kind, old, new)
            seen[key] = seen.get(key, -1) + 1
            yield Mutant(str(path.relative_to(root)), node.lineno, function, kind, old, new, seen[key], start, end)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions that make hardware: those that have a module `m`, or return a value of the hardware."""
    outers: list[ast.Module | ast.ClassDef] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for outer in outers:
        for node in outer.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            uses = any(isinstance(part, ast.Name) and part.id == "m" for part in ast.walk(node))
            returns = ast.unparse(node.returns) if node.returns else ""
            if uses or any(name in returns for name in _HARDWARE):
                yield f"{outer.name}.{node.name}" if isinstance(outer, ast.ClassDef) else node.name, node


def _edits(function: ast.FunctionDef) -> Iterator[tuple[ast.expr, str, str]]:
    """Expressions of a function, with the kind of the edit and the text that takes their place."""
    todo: list[ast.AST] = list(reversed(function.body))
    while todo:
        node = todo.pop()
        if _is_software(node):
            continue
        todo += reversed(list(_children(node)))
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and ast.unparse(call.func) in ("m.If", "m.Elif"):
                    yield call.args[0], "inversion", f"(({ast.unparse(call.args[0])}) == 0)"
        elif isinstance(node, ast.expr):
            for kind, new in _of_expression(node):
                yield node, kind, f"({ast.unparse(new)})" if not isinstance(new, ast.Constant) else ast.unparse(new)


def _of_expression(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        for value in (node.value + 1, node.value - 1) if node.value else (1,):
            yield "constant", ast.Constant(value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        yield "inversion", node.operand
    elif (
        isinstance(node, ast.BinOp)
        and type(node.op) in _BINARY
        and not _is_list(node.left)
        and not _is_list(node.right)
    ):
        new = copy.copy(node)
        new.op = _BINARY[type(node.op)]()
        yield "operator", new
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        other = copy.copy(node)
        other.ops = [_COMPARE[type(node.ops[0])]()]
        yield "operator" if isinstance(node.ops[0], ast.Eq | ast.NotEq) else "off by one", other
    elif isinstance(node, ast.Call):
        yield from _of_call(node)


def _is_list(node: ast.expr) -> bool:
    return isinstance(node, ast.List | ast.ListComp | ast.Tuple | ast.JoinedStr)


def _of_call(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Mux with its arms swapped; `any` for `all` and the other way round."""
    new = copy.copy(node)
    if isinstance(node.func, ast.Name) and node.func.id == "Mux":
        new.args = [node.args[0], node.args[2], node.args[1]]
        yield "inversion", new
    elif isinstance(node.func, ast.Attribute) and node.func.attr in ("any", "all") and not node.args:
        new.func = ast.Attribute(node.func.value, "all" if node.func.attr == "any" else "any", node.func.ctx)
        yield "operator", new


def _is_software(node: ast.AST) -> bool:
    """Checks, messages, and what only raises an error."""
    if isinstance(node, ast.If):
        return all(isinstance(part, ast.Raise) for part in node.body) and not node.orelse
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.func) in ("check", "super().__init__")
    return isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Parts that may be edited: no annotations, no names, no attributes of memories."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.keyword):
                if part.arg not in ("name", "attrs"):
                    yield part.value
            elif isinstance(part, ast.AST):
                yield part
