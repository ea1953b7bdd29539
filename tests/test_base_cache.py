"""The build cache and the toolchain helpers."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from tritape.base import cache, simulators
from tritape.base.errors import TritapeError


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITAPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_root_follows_the_environment(root, monkeypatch):
    assert cache.cache_root() == root
    monkeypatch.delenv("TRITAPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache_root() == Path("/somewhere/tritape")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_root() == Path.home() / ".cache" / "tritape"


def test_a_relative_root_is_one_folder_wherever_a_tool_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITAPE_CACHE", "a cache")
    assert cache.cache_root() == tmp_path / "a cache"


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """Neither HOME nor an entry in the password file; temporary files in a folder of the test."""

    def unknown(_uid: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("TRITAPE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"tritape-{os.getuid()}"


def test_without_a_home_the_cache_is_private(homeless, monkeypatch):
    assert cache.cache_root() == homeless
    assert homeless.stat().st_mode & 0o777 == 0o700
    folder = cache.cached("kind", "key", lambda folder: (folder / "x").write_text("x") and None)
    assert folder == homeless / "kind" / "key"
    cache.lend_to_tools()
    assert cache.cache_root() == homeless, "what tools get must not move the cache"
    assert os.environ["XDG_CACHE_HOME"] == str(homeless / "tools")
    for name in ("TRITAPE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    homeless.chmod(0o777)
    with pytest.raises(
        TritapeError, match="cache must be a folder that only you can write to, not somebody else's; set TRI"
    ):
        cache.cache_root()


def test_a_home_that_cannot_be_written_to(homeless, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert cache.cache_root() == homeless


def test_tools_keep_their_own_caches_where_there_is_a_home(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    cache.lend_to_tools()
    assert "XDG_CACHE_HOME" not in os.environ


def test_a_cache_that_cannot_be_written_to(root):
    root.write_text("a file")
    with pytest.raises(
        TritapeError, match=r"cache must be writable, not '(Not a directory|File exists)'; set TRITAPE_CACHE"
    ):
        cache.cached("kind", "key", lambda folder: None)


def test_digest_separates_its_parts():
    assert cache.digest("ab", "c") != cache.digest("a", "bc")
    assert cache.digest("ab", b"c") == cache.digest("ab", "c")


def test_builds_once(root):
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "result").write_text("42")

    first = cache.cached("kind", "key", build)
    assert cache.cached("kind", "key", build) == first == root / "kind" / "key"
    assert (first / "result").read_text() == "42"
    assert len(calls) == 1
    assert not calls[0].exists()
    cache.cached("kind", "other", build)
    assert len(calls) == 2


def test_a_failed_build_leaves_nothing(root):
    def build(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        cache.cached("kind", "key", build)
    assert [item.name for item in (root / "kind").iterdir()] == ["key.lock"]


def test_parallel_processes_build_once(root):
    script = textwrap.dedent("""
        import sys, time
        from tritape.base.cache import cached

        def build(folder):
            with open(sys.argv[1], "a") as log:
                log.write("built\\n")
            time.sleep(0.5)
            (folder / "done").write_text("")

        assert (cached("kind", "key", build) / "done").exists()
    """)
    log = root.parent / "log"
    runs = [subprocess.Popen([sys.executable, "-c", script, str(log)]) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_missing_compiler_names_the_cure(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TritapeError) as error:
        simulators.require_compiler()
    assert str(error.value) == (
        "C++ compiler must be on PATH as g++ or clang++, not missing; install g++ (Debian: apt install g++)"
    )
    assert not simulators.have_icarus()


def test_environment_is_restored(monkeypatch):
    monkeypatch.setenv("TRITAPE_A", "old")
    with simulators.environment({"TRITAPE_A": "new", "TRITAPE_B": "x"}):
        assert (os.environ["TRITAPE_A"], os.environ["TRITAPE_B"]) == ("new", "x")
    assert os.environ["TRITAPE_A"] == "old"
    assert "TRITAPE_B" not in os.environ


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
def test_verilator_runs_in_its_environment():
    env = {**os.environ, **simulators.verilator_env()}
    subprocess.run(["verilator", "--version"], env=env, capture_output=True, check=True)
    assert shutil.which("verilator", path=env["PATH"]) == str(simulators.verilator_root() / "bin" / "verilator")
