"""The command line on terminals and pipes of any encoding, closed ones, without a home, in folders with spaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tritape.model.data import embedded_models

PROGRAM = "import sys; from tritape.cli import main; sys.argv[0] = 'tritape'; main()"
TEXT = "Größe „in“ 𝔸 "
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("estimate", "nano", LANG="C")`: the program in a folder with a space, with these variables; None takes one away."""
    folder = tmp_path / "a folder"
    folder.mkdir()

    def start(
        *arguments: str, stdin: bytes | None = None, stdout: int | None = subprocess.PIPE, **changes: str | None
    ) -> subprocess.CompletedProcess[bytes]:
        env = {"PYTHONPATH": os.pathsep.join(sys.path)} | os.environ
        for name, value in changes.items():
            env.pop(name, None)
            env |= {} if value is None else {name: value}
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=folder, env=env, input=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=120,
        )  # fmt: skip

    return start


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None},
        {"PYTHONIOENCODING": "utf-16"},
    ],
)
def test_streams_of_any_encoding(run, tmp_path, environment):
    """A name that the encoding does not have is shown with codes; the file has it as it is."""
    done = run("estimate", "nano", "--json", "größe „𝔸“.json", **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"tokens_per_second" in done.stdout.replace(b"\x00", b"")
    assert json.loads((tmp_path / "a folder" / "größe „𝔸“.json").read_text())["model"] == "nano"


def test_an_error_in_an_encoding_without_its_letters(run):
    done = run("inspect", "größe „x“.tape", LC_ALL="C", LANG="C", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert (
        done.stderr
        == b"tritape: gr\\xf6\\xdfe \\u201ex\\u201c.tape: tape must be a file, not missing; make one with `tritape pack`\n"
    )


def test_a_text_from_a_pipe_in_any_encoding(run):
    """The text is read as what it is, whatever the terminal's encoding is."""
    found = []
    for raw, encoding in ((TEXT.encode(), "utf-8"), (TEXT.encode("utf-16"), "ascii")):
        done = run(
            "perplexity",
            "nano",
            "/dev/stdin",
            "--tokens",
            "8",
            "--json",
            "/dev/stdout",
            stdin=raw,
            PYTHONIOENCODING=encoding,
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    assert found[0]["tokens"] == 8


CHOOSE = ("choose", "nano", "--bandwidth", "1e9", "--clock", "1e8", "--part", "ecp5-85")


def test_closed_streams(run, tmp_path):
    read, write = os.pipe()
    os.close(read)  # as `| head` leaves it
    done = run("estimate", "nano", stdout=write)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    run("boards", "--json", "boards.json", stdout=write)
    run(*CHOOSE, "--json", "chosen.json", stdout=write)
    os.close(write)
    assert len(json.loads((tmp_path / "a folder" / "boards.json").read_text())) > 20, "written before it is shown"
    assert json.loads((tmp_path / "a folder" / "chosen.json").read_text())["model"] == "nano"
    line = f'exec {sys.executable} -c "{PROGRAM}" estimate nano --json out.json >&- 2>&- <&-'
    env = {"PYTHONPATH": os.pathsep.join(sys.path)} | os.environ
    assert subprocess.run(["sh", "-c", line], cwd=tmp_path, env=env, check=False).returncode == 0
    assert json.loads((tmp_path / "out.json").read_text())["model"] == "nano"


def test_json_into_a_pipe_and_a_link(run, tmp_path):
    done = run(*CHOOSE, "--json", "/dev/stdout")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "nano"
    assert b"points estimated" in done.stderr
    (tmp_path / "a folder" / "link.json").symlink_to("target.json")
    assert run("estimate", "nano", "--json", "link.json").returncode == 0
    assert (tmp_path / "a folder" / "link.json").is_symlink()
    assert json.loads((tmp_path / "a folder" / "target.json").read_text())["model"] == "nano"


def test_names_that_look_like_marks_of_colours_and_pictures(run, tmp_path):
    """Brackets and colons in paths are shown as they are."""
    done = run("timeline", "nano", "--json", "a[b] :smile:.json")
    assert done.stdout.startswith(b"a[b] :smile:.json: "), done.stdout
    (tmp_path / "a folder" / "[red]").mkdir()
    (tmp_path / "a folder" / "[red]" / "config.json").write_text(
        (embedded_models()["nano"] / "config.json").read_text()
    )
    done = run("estimate", "[red]")
    assert done.stdout.startswith(b"[red] (cycle model; rates are projected)"), done.stdout + done.stderr


BENCH = ("bench", "--cpu", "--model", "my model", "--tokens", "4", "--generations", "1", "--json", "b.json")


@pytest.fixture
def model(run: Run, tmp_path: Path) -> dict[str, str | None]:
    """`my model` in the program's folder, and an environment without a cache."""
    shutil.copytree(embedded_models()["nano"], tmp_path / "a folder" / "my model")
    (tmp_path / "temporary files").mkdir()
    return {"TRITAPE_CACHE": None, "XDG_CACHE_HOME": None, "TMPDIR": str(tmp_path / "temporary files")}


def test_a_home_and_a_cache_with_spaces(run, tmp_path, model):
    """The C++ of the processor's model is compiled into the cache, which is given from the folder where the program runs."""
    done = run(*BENCH, **(model | {"HOME": str(tmp_path / "my home"), "TRITAPE_CACHE": "a cache"}))
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads((tmp_path / "a folder" / "b.json").read_text())["cpu"]["generations"] == 1
    assert list((tmp_path / "a folder" / "a cache" / "cpu").glob("*/kernel.so"))


def test_a_home_that_cannot_be(run, tmp_path, model):
    """It is an error of one line that names the cure, or, for who is not root, a cache among the temporary files."""
    done = run(*BENCH, **(model | {"HOME": "/proc/no-home"}))
    if done.returncode:
        assert done.stderr.startswith(b"tritape: /proc/no-home/.cache/tritape/cpu: cache must be writable, not ")
        assert done.stderr.endswith(b"; set TRITAPE_CACHE to a folder of your own\n")
    else:
        assert list((tmp_path / "temporary files").glob("tritape-*/cpu/*/kernel.so"))
    assert sorted(path.name for path in (tmp_path / "a folder").iterdir()) in (["my model"], ["b.json", "my model"])
