"""Outputs that are not plain files are written through and never replaced; texts as editors save them; JSON without NaN."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tritape.base.errors import TritapeError
from tritape.base.files import check_output, decode_text, read_text, replacing
from tritape.base.json_text import json_text


def write(path: Path | str, content: bytes = b"new") -> None:
    with replacing(Path(path)) as stream:
        stream.write(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a space in its name, which holds nothing but what a test writes."""
    made = tmp_path / "a folder"
    made.mkdir()
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_has_the_permissions_of_the_process(folder):
    before = os.umask(0o027)
    try:
        write(folder / "new file")
    finally:
        os.umask(before)
    assert (folder / "new file").read_bytes() == b"new"
    assert stat.S_IMODE((folder / "new file").stat().st_mode) == 0o640


def test_a_file_keeps_its_permissions_and_is_replaced_at_once(folder):
    path = folder / "file"
    path.write_text("old")
    path.chmod(0o604)
    number = path.stat().st_ino
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.stat().st_ino != number, "it must be a new file, so that who reads the old one reads it whole"
    assert names(folder) == ["file"]


def test_a_link_stays_one(folder):
    (folder / "there").mkdir()
    (folder / "there" / "file").write_text("old")
    (folder / "link").symlink_to("there/file")
    (folder / "chain").symlink_to("link")
    (folder / "dangling").symlink_to("there/none yet")
    for link, file in (("link", "file"), ("chain", "file"), ("dangling", "none yet")):
        write(folder / link, link.encode())
        assert (folder / link).is_symlink()
        assert (folder / "there" / file).read_bytes() == link.encode()
    assert names(folder) == ["chain", "dangling", "link", "there"]
    assert names(folder / "there") == ["file", "none yet"]


def test_a_file_with_two_names_keeps_both(folder):
    (folder / "one").write_text("old, and longer")
    os.link(folder / "one", folder / "two")
    write(folder / "two")
    assert (folder / "one").read_bytes() == b"new"
    assert names(folder) == ["one", "two"]


def test_a_pipe_and_a_device_are_written_through(folder):
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join(10)
    assert got == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (folder / "null").symlink_to("/dev/null")
    write(folder / "null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert names(folder) == ["null", "pipe"]


def test_a_descriptor_is_written_to(folder):
    end, other = os.pipe()
    write(f"/dev/fd/{other}")
    assert os.read(end, 10) == b"new"
    os.close(end)
    os.close(other)
    with pytest.raises(
        TritapeError, match=rf"/dev/fd/{other}: descriptor must be open, not closed; choose another file"
    ):
        write(f"/dev/fd/{other}")


def test_standard_output_that_is_a_file_keeps_what_was_printed(folder):
    """A shell's `> out.txt` has the file open: a rename would take it away, opening it again would write over its beginning."""
    script = (
        "from pathlib import Path; from tritape.base.files import replacing\n"
        "print('before')\nwith replacing(Path('/dev/stdout')) as stream: stream.write(b'through\\n')\nprint('after')"
    )
    with (folder / "out.txt").open("wb") as out:
        subprocess.run([sys.executable, "-c", script], stdout=out, check=True)
    assert (folder / "out.txt").read_text() == "before\nthrough\nafter\n"
    assert names(folder) == ["out.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_in_a_folder_that_is_read_only(folder):
    (folder / "file").write_text("old")
    folder.chmod(0o555)
    try:
        write(folder / "file")
        assert (folder / "file").read_bytes() == b"new"
        with pytest.raises(TritapeError, match="output must be writable, not forbidden; choose another folder"):
            write(folder / "other")
    finally:
        folder.chmod(0o755)


def test_a_mounted_file_that_cannot_be_replaced(folder, monkeypatch):
    """As in a container: the file is a mount of its own, and a rename over it fails."""
    (folder / "file").write_text("old, and longer")

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    write(folder / "file")
    assert (folder / "file").read_bytes() == b"new"
    assert names(folder) == ["file"]


def test_after_an_error_everything_is_as_it_was(folder):
    (folder / "file").write_text("old")
    os.link(folder / "file", folder / "second")
    (folder / "plain").write_text("old")

    def interrupted(path: Path) -> None:
        with replacing(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    for name in ("file", "plain", "none"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(folder / name)
    assert {path.read_text() for path in folder.iterdir()} == {"old"}
    assert names(folder) == ["file", "plain", "second"]


def test_a_name_as_long_as_a_name_may_be(folder):
    write(folder / ("x" * 255))
    assert names(folder) == ["x" * 255]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no/file", "no/file: folder must exist, not be missing; create no"),
        (".", r"\.: output must be a file, not a folder; add a file name"),
        ("loop", "loop: links must lead to a file, not in a circle; remove one of them"),
        ("away", "away: folder must exist, not be missing; create .*nowhere"),
    ],
)
def test_wrong_outputs(folder, monkeypatch, path, message):
    monkeypatch.chdir(folder)
    Path("loop").symlink_to("loop")
    Path("away").symlink_to("nowhere/file")
    with pytest.raises(TritapeError, match=message):
        check_output(Path(path))
    with pytest.raises(TritapeError, match=message):
        write(path)
    assert names(folder) == ["away", "loop"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_texts_as_editors_save_them(folder, encoding, ends):
    (folder / "text").write_bytes(f"größer{ends}als 𝔸{ends}".encode(encoding))
    assert read_text(folder / "text") == "größer\nals 𝔸\n"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_both_orders_of_utf16(encoding):
    assert decode_text("\ufeffwo\r\n".encode(encoding), "text") == "wo\n"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "größer".encode("latin-1"),
            "t: text must be UTF-8, not have byte 0xf6 at 2; save it as UTF-8, or: iconv -f LATIN1",
        ),
        (b"\xff\xfea\x00b", "t: text must be whole UTF-16 as its first bytes say, not truncated data at byte"),
    ],
)
def test_other_encodings_are_named(raw, message):
    with pytest.raises(TritapeError, match=message):
        decode_text(raw, "t")


def test_a_text_from_a_pipe(folder):
    os.mkfifo(folder / "pipe")
    writer = threading.Thread(target=lambda: (folder / "pipe").write_bytes(b"a text"))
    writer.start()
    assert read_text(folder / "pipe") == "a text"
    writer.join(10)
    with pytest.raises(TritapeError, match="none: text must be a file, not missing; give its path"):
        read_text(folder / "none")


def test_json_has_no_numbers_that_json_has_not():
    value = {"a": float("nan"), "b": [1.5, float("inf"), {"c": (float("-inf"), "NaN")}]}
    text = json_text(value)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(text, parse_constant=refuse) == {"a": None, "b": [1.5, None, {"c": [None, "NaN"]}]}
    assert json_text([1], 1) == "[\n 1\n]"
