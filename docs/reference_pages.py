"""Pages of the reference, made from what the code says of itself: a page a hardware unit, a page a command.

`docs/conf.py` calls `write` at every build, so no page can differ from its docstring or from its `--help`. The pages lie in
`docs/reference`, which git ignores. Docstrings are plain indented text; `docstring_to_markdown` gives it headings and lists.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import typer
from amaranth.lib import wiring

FOLDERS = {
    "": "Accelerators and what all units share",
    "tape": "The tape: reader, sequencer, CRC, embedding",
    "engine": "The engine: ternary multiply-accumulate",
    "norm": "Norm, quantiser, dequantiser",
    "mixer": "Token mixer, channel mixer, residual",
    "head": "The head: sampler and argmax",
    "vector": "The vector paths, pipelined and serial",
    "batch": "Several slots in one pass",
    "memory": "Memory backends",
    "link": "The host link",
    "stream": "Parts for streams",
}
"""Folders of `hw/` in the order of the reference; one that is not named here comes last under its own name."""

PYTHON = {
    "tritape.host.device": ["Device"],
    "tritape.host.jobs": ["Job", "run_jobs"],
    "tritape.sim.bench": ["check_streams"],
}
"""What a program imports beside the units: module, names."""

HEADING = re.compile(r"^(Ports|Parameters|Members|Outputs|Inputs)\b([^:]*):?$")
LABEL = re.compile(r"^([A-Z][\w ,=/()]{2,44}): ")
ITEM = re.compile(r"^(- )?`?\w+`?( \([^)]*\))?((,| and) `?\w+`?( \([^)]*\))?)*: ")
FULL = 112
"""A line of a docstring so long, the next word included, was broken because it was full; a shorter one on purpose."""


def _escape(text: str) -> str:
    """Markdown for plain text: what is between backticks stays as it is, names of pages become links, the rest means
    what it says."""
    parts = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(parts), 2):
        plain = re.sub(r"([\\*_\[\]<>$#|~^{}])", r"\\\1", parts[i])
        parts[i] = re.sub(r"\bdocs/([a-z-]+)\.md", r"[docs/\1.md](/\1.md)", plain)
    return "".join(parts)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _items(lines: list[str]) -> Iterator[str]:
    """A Markdown list from indented lines. A line of the least indent that names something before a colon begins an item,
    and so does one after a line that had room for its first word; others go on with their item."""
    least = min(map(_indent, lines))
    items: list[str] = []
    before = ""
    for line in lines:
        text = line.strip()
        wrapped = len(before) + 1 + len(text.split()[0]) > FULL
        if items and (_indent(line) > least or (wrapped and not ITEM.match(text))):
            items[-1] += " " + text
        else:
            items.append(text.removeprefix("- "))
        before = line
    for item in items:
        name, colon, rest = item.partition(": ")
        names = re.sub(r"\w+", r"`\g<0>`", name) if re.fullmatch(r"\w+(, \w+)*", name) else _escape(name)
        yield f"- **{names}**: {_escape(rest)}" if colon else f"- {_escape(item)}"


def _paragraph(lines: list[str]) -> Iterator[str]:
    if lines[0].startswith("- "):
        items: list[str] = []
        for line in lines:
            if line.startswith("- "):
                items.append(line[2:].strip())
            else:
                items[-1] += " " + line.strip()
        yield "\n".join(f"- {_escape(item)}" for item in items)
        return
    if all(line.startswith("    ") for line in lines):
        yield "```text\n" + "\n".join(line[4:] for line in lines) + "\n```"
        return
    prose: list[str] = []
    inner: list[str] = []
    for line in [*lines, ""]:
        if line.startswith(" "):
            inner.append(line)
            continue
        if inner:  # indented lines under a heading, or under a line that announces them
            if prose:
                yield _escape(" ".join(prose))
                prose = []
            yield "\n".join(_items(inner))
            inner = []
        heading = HEADING.match(line)
        label = LABEL.match(line)
        if (heading or label) and prose:
            yield _escape(" ".join(prose))
            prose = []
        if heading:
            yield f"## {_escape(heading[1] + heading[2])}"
        elif label:
            prose = [line]
        elif line:
            prose.append(line)
    if prose:
        yield _escape(" ".join(prose))


def docstring_to_markdown(docstring: str) -> str:
    """Markdown for a docstring of this project. Every word of it is on the page."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    return "\n\n".join(block for paragraph in paragraphs for block in _paragraph(paragraph.splitlines()))


def units() -> Iterator[tuple[ModuleType, str, type]]:
    """Every component of `tritape.hw`: its module, its name, its class."""
    package = importlib.import_module("tritape.hw")
    for info in pkgutil.walk_packages(package.__path__, "tritape.hw."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if (
                inspect.isclass(value)
                and issubclass(value, wiring.Component)
                and value.__module__ == info.name
                and not name.startswith("_")
            ):
                yield module, name, value


def _object_page(module: ModuleType, name: str, value: object) -> str:
    path = module.__name__.removeprefix("tritape.").replace(".", "/")
    file = f"{path}/__init__.py" if hasattr(module, "__path__") else f"{path}.py"
    signature = re.sub(r"'|tritape\.[a-z_.]+\.", "", str(inspect.signature(value)))  # type: ignore[arg-type]
    kind = "class " if inspect.isclass(value) else ""
    lines = [
        f"# {name}",
        f"`from {module.__name__} import {name}`, in `{file}`",
        f"```python\n{kind}{name}{signature}\n```",
    ]
    lines.append(docstring_to_markdown(inspect.getdoc(value) or ""))
    if inspect.isclass(value) and not issubclass(value, wiring.Component):
        for method, function in inspect.getmembers(value, callable):
            if not method.startswith("_"):
                arguments = re.sub(r"'", "", str(inspect.signature(function)))
                lines += [f"## {method}", f"```python\n{method}{arguments}\n```"]
                lines.append(docstring_to_markdown(inspect.getdoc(function) or ""))
    return "\n\n".join(line for line in lines if line) + "\n"


def _unit_pages() -> Iterator[tuple[str, str]]:
    folders: dict[str, list[tuple[str, str]]] = {}
    for module, name, value in units():
        parts = module.__name__.split(".")[2:]
        folder = parts[0] if len(parts) > 1 else ""
        first = (inspect.getdoc(value) or "").splitlines()[0]
        folders.setdefault(folder, []).append((name, first))
        yield f"units/{name}", _object_page(module, name, value)
    index = [
        "# Hardware units",
        "One page a component of `hw/`, made from its docstring: what it is for, then its contract.",
    ]
    for folder in sorted(folders, key=lambda name: [*FOLDERS, name].index(name)):
        names = sorted(name for name, _ in folders[folder])
        index += [f"## {FOLDERS.get(folder, folder)}", _toctree(names)]
    yield "units/index", "\n\n".join(index) + "\n"


def commands() -> Iterator[tuple[str, str, typer.core.TyperCommand]]:
    """Every command of `tritape` and `tritape-train`: program, name, command."""
    import tritape.cli
    import tritape.train.cli

    tritape.cli.register()
    for program, app in (("tritape", tritape.cli.app), ("tritape-train", tritape.train.cli.app)):
        for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
            yield program, name, command


def _command_page(program: str, name: str, command: typer.core.TyperCommand) -> str:
    context = command.make_context(f"{program} {name}", [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f"# {program} {name}",
        _escape(inspect.cleandoc(command.help or "")),
        f"```text\n{program} {name} {usage}\n```",
    ]
    records = {"argument": [], "option": []}  # type: dict[str, list[str]]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            name_and_type, text = record
            records[parameter.param_type_name].append(f"- **`{name_and_type}`**: {_escape(' '.join(text.split()))}")
    for kind, entries in records.items():
        if entries:
            lines += [f"## {kind.capitalize()}s", "\n".join(entries)]
    return "\n\n".join(lines) + "\n"


def _command_pages() -> Iterator[tuple[str, str]]:
    names: dict[str, list[str]] = {}
    for program, name, command in commands():
        names.setdefault(program, []).append(f"{program}-{name}")
        yield f"commands/{program}-{name}", _command_page(program, name, command)
    index = [
        "# Commands",
        "One page a command, made from its `--help`. Wrong input ends with exit status 2 and one line.",
    ]
    for program, pages in names.items():
        index += [f"## {program}", _toctree(pages)]
    yield "commands/index", "\n\n".join(index) + "\n"


def _python_pages() -> Iterator[tuple[str, str]]:
    pages = []
    for module_name, names in PYTHON.items():
        module = importlib.import_module(module_name)
        for name in names:
            pages.append(name)
            yield f"python/{name}", _object_page(module, name, getattr(module, name))
    text = "What a program of your own imports, beside the [hardware units](../units/index.md)."
    yield "python/index", f"# Python interface\n\n{text}\n\n{_toctree(pages)}\n"


def _toctree(names: list[str]) -> str:
    return "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```"


def write(folder: Path) -> None:
    """All pages into `folder`. A page that has not changed is not touched, so that Sphinx does not read it again."""
    pages = dict([*_unit_pages(), *_command_pages(), *_python_pages()])
    for name, text in pages.items():
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    for path in folder.rglob("*.md"):
        if str(path.relative_to(folder).with_suffix("")) not in pages:
            path.unlink()
