"""Arrows go down: no two modules, and no two folders, import each other, not even for types or inside a function."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = ("base", "model", "hw", "rtl_gen", "host", "sim", "cli", "train")


def modules():
    """Every module of the package by its dotted name below `tritape`."""
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source, known):
    """Names of the modules of `known` that a source imports anywhere: at its top, for types, or in a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            children = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [child if child.removeprefix("tritape.") in known else node.module for child in children]
        else:
            continue
        for name in names:
            if (short := name.removeprefix("tritape.")) in known and name.startswith("tritape."):
                yield short


def imports():
    """The modules that each module imports."""
    known = modules()
    return {name: set(imported(path.read_text(), known)) - {name} for name, path in known.items()}


def siblings(graph, folder):
    """What the members of a folder import of each other, a folder in it counted as one member."""
    prefix = f"{folder}." if folder else ""

    def member(name):
        return name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) and name != folder else None

    edges = {}
    for name, targets in graph.items():
        if (start := member(name)) is not None:
            edges.setdefault(start, set()).update(
                end for target in targets if (end := member(target)) not in (None, start)
            )
    return edges


def cycle(edges):
    """A cycle, as the names along it, or None."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_modules_do_not_import_each_other():
    assert cycle(imports()) is None


def test_members_of_a_folder_do_not_import_each_other():
    graph = imports()
    folders = {"", *(name.rpartition(".")[0] for name in graph)}
    cycles = {folder: found for folder in sorted(folders) if (found := cycle(siblings(graph, folder)))}
    assert cycles == {}


def test_every_kind_of_import_counts():
    known = {"a": None, "a.b": None, "a.b.c": None}
    for source, wanted in (
        ("import tritape.a.b", ["a.b"]),
        ("from tritape.a import b", ["a.b"]),
        ("from tritape.a.b import c, other", ["a.b.c", "a.b"]),
        ("if TYPE_CHECKING:\n    from tritape.a import name", ["a"]),
        ("def f():\n    from tritape.a.b.c import name", ["a.b.c"]),
        ("import a.b\nfrom os import path", []),
    ):
        assert list(imported(source, known)) == wanted


def test_cycles_are_found():
    graph = {"x.a": {"x.b.c"}, "x.b.c": {"x.d"}, "x.d": {"x.b.e"}, "x.b.e": set(), "x": set()}
    assert cycle(graph) is None
    assert set(cycle(siblings(graph, "x"))) == {"b", "d"}
    assert set(cycle(graph | {"x.b.e": {"x.a"}})) == {"x.a", "x.b.c", "x.d", "x.b.e"}
