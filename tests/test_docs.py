"""README and docs: the files, commands, options and modules they name exist; the reference covers all units and commands."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in [
        ROOT / "README.md",
        ROOT / "bitstreams/README.md",
        ROOT / "SECURITY.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    if not {"reference", "_build"} & set(page.relative_to(ROOT).parts)
]
FOLDERS = ("base", "benchmarks", "cli", "docs", "host", "hw", "model", "rtl_gen", "sim", "tests", "train")

sys.path.insert(0, str(ROOT / "docs"))  # not a package: Sphinx reads this folder, and two modules stand in it

diagrams = importlib.import_module("diagrams")
reference_pages = importlib.import_module("reference_pages")

COMMANDS = {(program, name): command for program, name, command in reference_pages.commands()}


def named_files(text: str) -> list[str]:
    """Backticked paths of files and folders of this repository in a page."""
    spans = re.findall(r"`([^`\n]+)`", text)
    words = [word for span in spans for word in span.split() if re.fullmatch(r"[\w./-]+", word)]
    return [word for word in words if word.split("/")[0] in FOLDERS and "/" in word and "_build" not in word]


def shell_lines(text: str) -> Iterator[str]:
    """Lines of code blocks without a language, or in shell, with continuations joined and comments cut."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
        if language in ("", "sh", "bash", "shell", "console"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"^    (\S.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)


def words_of(line: str) -> list[str]:
    line = line.strip().removeprefix("$ ").removeprefix("sudo ").removeprefix(".venv/bin/")
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def called(text: str) -> Iterator[tuple[list[str], bool]]:
    """Calls of our commands as words; with each, whether it stands in a code block, where it must be complete."""
    for line in shell_lines(text):
        for part in re.split(r"&&|\|", line):
            words = words_of(part)
            if words and words[0] in ("tritape", "tritape-train"):
                yield words, True
    for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        words = words_of(" ".join(span.split()))
        if words and words[0] in ("tritape", "tritape-train"):
            yield words, False


def check_call(words: list[str], complete: bool) -> None:
    """Raise `ValueError` unless the command and its options exist and take what they are given. Nothing runs."""
    program, *rest = words
    rest = [word for word in rest if word != "..."]  # an ellipsis stands for options that the text leaves out
    if not rest or rest[0] == "--help":
        return
    command = COMMANDS.get((program, rest[0]))
    if command is None:
        raise ValueError(f"{program} has no command {rest[0]!r}")
    context = command.context_class(command, info_name=rest[0])
    try:
        given, left, _ = command.make_parser(context).parse_args(args=list(rest[1:]))
    except Exception as error:  # NoSuchOption, BadOptionUsage: of click or of typer's own copy of it
        if not complete and "requires an argument" in str(error):
            return  # running text may name an option without its value
        raise ValueError(f"{' '.join(words)}: {error}") from None
    if left:
        raise ValueError(f"{' '.join(words)}: {left[0]!r} is one argument too many")
    known = typing.get_type_hints(command.callback)
    for parameter in command.get_params(context):
        value = given.get(parameter.name)
        missing = value is None or "UNSET" in str(value) or value == ()
        if complete and parameter.required and missing and "--help" not in rest:
            raise ValueError(f"{' '.join(words)}: {parameter.name} is missing")
        hint = known.get(parameter.name, str)
        number = {int, float} & {hint, *typing.get_args(hint)}
        if isinstance(value, str) and number and re.search(r"\d", value):  # N, T and the like stand for a number
            number.pop()(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_name_exist(page):
    missing = [name for name in named_files(page.read_text()) if not (ROOT / name).exists()]
    assert not missing, f"{page.name} names files that do not exist: {missing}"


def test_the_two_journeys_name_files_of_every_floor():
    """docs/architecture.md follows a weight byte and a token through the floors; each row names a file."""
    text = (ROOT / "docs/architecture.md").read_text()
    for title, floors in (("one weight byte", {"model", "host", "hw"}), ("one token", {"model", "host", "hw"})):
        section = text.split(f"## The way of {title}\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| \d+ \| (.*?) \|", section, re.M)
        assert len(rows) >= 12
        assert all(named_files(row) for row in rows), "a row without a file"
        assert {name.split("/")[0] for row in rows for name in named_files(row)} == floors
    floors = re.findall(r"^\| \d \| `(\w+)/` \|", text, re.M)
    layers = re.findall(r'^  "tritape\.(\w+)",$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert floors == layers, "the floors of the page are those of the contract in pyproject.toml, in order"


def test_a_path_that_does_not_exist_is_noticed():
    assert named_files("`hw/engine/no_such_file.py` and `x`, `out/tritape.v`") == ["hw/engine/no_such_file.py"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_pages_parse(page):
    faults = []
    for words, complete in called(page.read_text()):
        try:
            check_call(words, complete)
        except Exception as error:
            faults.append(str(error))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tritape generat x", "no command 'generat'"),
        ('tritape generate "x" --lanes 4', "--lanes"),
        ("tritape generate x y", "too many"),
        ("tritape choose 370m --bandwidth 16e9 --part xck26", "clock is missing"),
        ("tritape estimate 370m --clock", "--clock"),
        ("tritape estimate 370m --groups 1.5", "1.5"),
    ],
)
def test_commands_that_do_not_exist_are_noticed(line, message):
    ((words, complete),) = called(f"```\n{line}\n```\n")
    with pytest.raises(Exception, match=re.escape(message)):
        check_call(words, complete)


def test_many_commands_are_found():
    """The search for calls finds those of code blocks and of running text, or the tests above would check nothing."""
    found = [words[1] for page in PAGES for words, _ in called(page.read_text()) if len(words) > 1]
    assert len(found) > 80
    assert {"generate", "verilog", "estimate", "run", "bench", "build", "program", "pack"} <= set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_modules_and_tests_in_pages_exist(page):
    text = page.read_text()
    for script in re.findall(r"(?:python3?|pytest) ((?:benchmarks|tests)/[\w/*]+\.py)", text):
        assert list(ROOT.glob(script)), script
    for module in re.findall(r"python3? -m (tritape[\w.]+)", text):
        assert importlib.util.find_spec(module), module
    for target in re.findall(r"`make ([\w-]+)", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_pages_compiles_and_its_imports_resolve(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S):
        lines = re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", block, re.M)  # a session: `make test` runs it as a doctest
        tree = ast.parse("\n".join(lines) if lines else block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tritape"):
                module = importlib.import_module(node.module)
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert not missing, f"{node.module} has no {missing}"


def test_rows_of_the_memory_benchmark_exist():
    listed = subprocess.run(
        [sys.executable, "benchmarks/memory_bars.py", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    named = {row for page in PAGES for row in re.findall(r"memory_bars\.py ([a-z][\w.-]*\w)", page.read_text())}
    named |= set(re.findall(r"`\.\.\. ([a-z][\w.-]*\w)", (ROOT / "README.md").read_text()))
    assert len(named) >= 6
    assert not {row for row in named if not re.search(rf"\b{re.escape(row)}\b", listed)}


@pytest.mark.parametrize("page", PAGES[:4], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_outside_docs_resolve(page):
    """Sphinx checks links within docs; these pages it does not read in their place."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_pages_use_one_word_for_one_thing():
    """A slot serves one token of a batch; a lane is the slice of an engine; the old words are gone."""
    old = re.compile(r"\btracks?\b(?! of)|token[- ]lanes?|\bT batch\b|several batch\b|--lanes|\blanes-\d", re.I)
    faults = [(page.name, found[0]) for page in PAGES for found in old.finditer(page.read_text())]
    assert not faults


@pytest.mark.parametrize("name", diagrams.PICTURES)
def test_pictures_are_what_their_program_draws(name):
    assert (ROOT / "docs" / name).read_text() == diagrams.PICTURES[name](), "run: python docs/diagrams.py"


def test_the_recorded_text_is_what_the_golden_model_writes():
    """`make demo`'s text in docs/demo.txt, token by token; the recording also says that the hardware wrote the same."""
    from tritape.host.protocol import inverse_temperature
    from tritape.model import arith
    from tritape.model.checkpoint import load_checkpoint
    from tritape.model.data import default_model_path
    from tritape.model.formats import quantise_model
    from tritape.model.golden import IntegerModel
    from tritape.model.tokenizer import load_tokenizer

    options = dict(zip(diagrams.DEMO[2::2], diagrams.DEMO[3::2]))
    checkpoint = load_checkpoint(default_model_path())
    model, tokenizer = quantise_model(checkpoint), load_tokenizer(checkpoint)
    golden = IntegerModel(model)
    hot = inverse_temperature(float(options["--temperature"]), model.logit_fraction)
    state, ids = int(options["--seed"]), list(tokenizer.encode(diagrams.DEMO[1]))
    prompt = len(ids)
    for place in range(prompt + int(options["--tokens"]) - 1):
        chosen, state = arith.choose(golden.step(ids[place]), hot, state)
        if place >= prompt - 1:
            ids.append(chosen)
    recorded = (ROOT / "docs/demo.txt").read_text().splitlines()
    assert recorded[0] == tokenizer.decode(ids)
    figures = dict(re.findall(r"^  (\w+) +(\S+)$", "\n".join(recorded), re.M))
    assert figures["bit_exact"] == "True"
    assert figures["tokens"] == options["--tokens"]
    assert " ".join(diagrams.DEMO[2:]) in (ROOT / "Makefile").read_text(), "the command of `make demo`"


def test_labels_of_a_picture_fit_their_boxes():
    for x, y, width, height, _, lines in diagrams.BOXES.values():
        assert max(7.2 * len(lines[0]), *(6.2 * len(line) for line in lines[1:])) < width, lines
        assert 0 <= x < x + width <= 960, lines
        assert 18 * len(lines) < height, lines
        assert y + height <= 676, lines


def test_helps_are_shown_as_they_are_written():
    """Nothing in a help reads like a mark of colours or the name of a picture."""
    for (program, name), command in COMMANDS.items():
        shown = re.sub(r"\s+", "", CliRunner().invoke(command, ["--help"]).stdout)
        for parameter in command.params:
            said = re.sub(r"\s+", "", getattr(parameter, "help", None) or "")
            assert said in shown, f"{program} {name}: help of {parameter.name}"


def test_the_reference_has_a_page_for_every_unit_and_command(tmp_path):
    reference_pages.write(tmp_path)
    for _, name, unit in reference_pages.units():
        page = (tmp_path / f"units/{name}.md").read_text()
        plain = re.sub(r"\\(.)|\*\*|^[#-]+ |^```\w*", r"\1", page, flags=re.M)
        words = re.findall(r"[A-Za-z]\w+", unit.__doc__ or "")
        assert words, f"{name} has no docstring"
        assert not set(words) - set(re.findall(r"\w+", plain)), f"words of {name} are lost"
    for (program, name), command in COMMANDS.items():
        page = (tmp_path / f"commands/{program}-{name}.md").read_text()
        for parameter in command.params:
            assert all(option in page for option in parameter.opts if option.startswith("-")), parameter.name
    assert len(COMMANDS) > 20
    assert isinstance(COMMANDS["tritape", "generate"], typer.core.TyperCommand)


def test_a_page_of_the_reference_that_lost_its_unit_goes(tmp_path):
    reference_pages.write(tmp_path)
    (tmp_path / "units/Gone.md").write_text("# Gone\n")
    stamp = (tmp_path / "units/MLGRU.md").stat().st_mtime_ns
    reference_pages.write(tmp_path)
    assert not (tmp_path / "units/Gone.md").exists()
    assert (tmp_path / "units/MLGRU.md").stat().st_mtime_ns == stamp
