"""Wrong input at the command line: exit status 2, one line on stderr that names the cure, nothing half-written."""

import json
import shutil
import sys

import numpy as np
import pytest
import tokenizers
from tokenizers import models

from tritape import cli
from tritape.base import simulators as toolchain
from tritape.base.errors import TritapeError
from tritape.host import frames, protocol
from tritape.host.device import Device
from tritape.hw.counters import COUNTERS
from tritape.hw.link.commands import BATCH_VERSION, PROTOCOL_VERSION, REPLY, Command
from tritape.hw.tape.header import Fault
from tritape.model.checkpoint import load_checkpoint, random_checkpoint, save_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.tape.container import read_tape
from tritape.model.tape.reader import sections


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A small checkpoint without a tokenizer, so of bytes, and its tape."""
    folder = tmp_path_factory.mktemp("originals")
    save_checkpoint(random_checkpoint(ModelConfig(256, 8, 1, 8), seed=0), folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tritape", "pack", f"{folder}/model", "-o", f"{folder}/model.tape"])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0
    return folder


@pytest.fixture
def here(originals, tmp_path, monkeypatch):
    """The working folder, with `model/` and `model.tape` to spoil."""
    shutil.copytree(originals / "model", tmp_path / "model")
    shutil.copy(originals / "model.tape", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(here, monkeypatch, capsys):
    """`refused("pack", ...)` runs a command that must fail as it should, and returns its line."""

    def run(*arguments: str) -> str:
        before = sorted(here.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["tritape", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        assert end.value.code == 2
        assert output.err.startswith("tritape: ")
        assert output.err.count("\n") == 1, output.err
        assert output.out == ""
        assert sorted(here.rglob("*")) == before, "it left files behind"
        return output.err.removeprefix("tritape: ").rstrip("\n")

    return run


def spoil(here, tensor, change):
    """Write the checkpoint again with one tensor changed (None takes it away), without any check."""
    checkpoint = load_checkpoint(here / "model")
    arrays = {name: checkpoint.tensor(name) for name, _ in checkpoint.config.tensor_shapes()}
    changed = change(arrays.pop(tensor))
    if changed is not None:
        arrays[tensor] = changed
    header, data = {}, b""
    for name, array in arrays.items():
        raw = array.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    (here / "model" / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def configure(here, **entries):
    path = here / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def first_nan(array):
    array.flat[3] = np.nan
    return array


@pytest.mark.parametrize(
    ("tensor", "change", "message"),
    [
        (
            "model.layers.0.mlp.down_proj.weight",
            lambda array: None,
            "model: tensor model.layers.0.mlp.down_proj.weight must be in the checkpoint, not missing; check config.json",
        ),
        (
            "model.layers.0.attn.i_proj.weight",
            lambda array: array[:7],
            "model/model.safetensors: shape of tensor model.layers.0.attn.i_proj.weight must be [8, 8], not [7, 8]; "
            "check config.json",
        ),
        (
            "lm_head.weight",
            first_nan,
            "model/model.safetensors: values of tensor lm_head.weight must be finite, not nan; take an undamaged checkpoint",
        ),
    ],
)
def test_tensors(refused, here, tensor, change, message):
    spoil(here, tensor, change)
    assert refused("pack", "model", "-o", "new.tape") == message
    assert refused("generate", "A", "--model", "model", "--json", "out.json") == message


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "llama"}, "model_type must be 'hgrn_bit', not 'llama'; use a MatMul-free LM checkpoint"),
        (
            {"use_short_conv": True},
            "use_short_conv must be false, not True; short convolutions are not supported, use a model without them",
        ),
        (
            {"hidden_size": -8},
            "hidden_size must be a positive integer, not -8; take config.json from the checkpoint's repository",
        ),
    ],
)
def test_config(refused, here, entries, message):
    configure(here, **entries)
    for command in (["pack", "model", "-o", "new.tape"], ["estimate", "model"]):
        assert refused(*command) == f"model/config.json: {message}"


def test_tensor_of_a_short_convolution(refused, here):
    spoil(here, "model.norm.weight", lambda array: array)
    path = here / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"model.layers.0.attn_norm.weight", b"model.layers.0.attn.i_conv1d.ww"))
    assert refused("pack", "model", "-o", "new.tape") == (
        "model/model.safetensors: tensor model.layers.0.attn.i_conv1d.ww must be absent, not present; "
        "short convolutions are not supported, use a model without them"
    )


def test_damaged_checkpoint_files(refused, here):
    path = here / "model" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert "model/model.safetensors: " in refused("pack", "model", "-o", "new.tape")
    path.write_bytes(whole[:100])
    assert "header must be at most 92 bytes, not" in refused("pack", "model", "-o", "new.tape")
    path.unlink()
    assert "must hold model.safetensors or pytorch_model.bin, or one in parts" in refused(
        "pack", "model", "-o", "new.tape"
    )
    (here / "model" / "config.json").write_bytes(b"\xff{")
    assert refused("pack", "model", "-o", "new.tape") == (
        "model/config.json: file must be JSON, not damaged text; download it again"
    )
    assert refused("pack", "nowhere", "-o", "new.tape") == (
        "nowhere: model must be a checkpoint folder, a tape or a name, not missing; "
        "names are austen-128x4, base, nano, small, small-sparse, tiny"
    )


def test_damaged_tape(refused, here):
    path = here / "model.tape"
    whole = path.read_bytes()
    for data, message in [
        (
            whole[:-10],
            f"file must have {len(whole)} bytes, not {len(whole) - 10}; it is truncated or damaged: pack it again",
        ),
        (whole[:5], "file must start with"),
        (b"PK" + whole[2:], "not b'PK"),
        (whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], "CRC-32 of the metadata must be"),
        (whole[:-16] + bytes([whole[-16] ^ 1]) + whole[-15:], "CRC-32 of embedding row 255 must be"),
        (whole[:-320] + bytes([whole[-320] ^ 1]) + whole[-319:], "CRC-32 of embedding row 246 must be"),
    ]:
        path.write_bytes(data)
        line = refused("inspect", "model.tape", "--json", "out.json")
        assert line.startswith("model.tape: ")
        assert message in line
    path.unlink()
    assert refused("inspect", "model.tape") == (
        "model.tape: tape must be a file, not missing; make one with `tritape pack`"
    )


def test_wrong_crc_of_a_section(refused, here):
    path = here / "model.tape"
    tape = read_tape(path)
    address = next(address for section, address, _ in sections(tape.image, tape.geometry) if section.payload)
    data, geometry = bytearray(path.read_bytes()), tape.geometry
    data[len(data) - len(tape.image) + (address + geometry.header_words) * geometry.word_bytes] ^= 1
    path.write_bytes(data)
    line = refused("inspect", "model.tape")
    assert "CRC-32 of section" in line
    assert line.endswith("; pack the tape again")


def test_model_too_large_for_any_bitstream(refused, here):
    save_checkpoint(random_checkpoint(ModelConfig(256, 8, 1, 16640), seed=0), here / "model")
    message = "width of a BitLinear must be at most 16384, not 16640; such a model is not supported"
    assert refused("pack", "model", "-o", "new.tape") == message
    assert refused("generate", "A", "--model", "model") == message
    assert (
        refused("estimate", "model")
        == "max_intermediate must be an integer in 1..16384, not 16640; keep within that range"
    )


COUNTED = bytes(4 * len(COUNTERS))


class FaultyTransport:
    """Answers every command: IDENTIFY, COUNTERS with zeros, BOOT with a fault, all others with nothing."""

    def __init__(self, fault, version=protocol.PROTOCOL_VERSION, groups=16, counters=COUNTED):
        identity = protocol.IDENTITY.pack(version, 0, groups, 1024, 4096, 24, 1024, 32768, 1000)
        self.data = {Command.IDENTIFY: identity, Command.COUNTERS: counters}
        self.fault = fault
        self.answers = b""

    def write(self, data):
        kind, sequence, argument, _ = protocol.HEADER.unpack_from(frames.decode(data.strip(b"\0")))
        reply = protocol.REPLY_HEADER.pack(
            kind | REPLY, sequence, argument, 0, self.fault if kind == Command.BOOT else 0
        )
        self.answers = frames.encode(reply + self.data.get(kind, b""))

    def read(self, timeout_s):
        answers, self.answers = self.answers, b""
        return answers

    def discard(self):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("fault", protocol.FAULTS)
def test_bitstream_refuses_a_tape(fault):
    with pytest.raises(TritapeError) as error:
        Device(FaultyTransport(fault)).boot()
    where = (
        "section 0 of the tape: " if fault >= Fault.CHECK else ""
    )  # the others are about HEADER, which says so itself
    assert str(error.value) == f"{where}{protocol.FAULTS[fault]} (fault {fault})"
    assert " must be " in str(error.value)
    assert "; " in str(error.value)


def test_counters_that_are_too_few_are_refused():
    device = Device(FaultyTransport(0, counters=bytes(8)))
    with pytest.raises(TritapeError, match=r"^reply to COUNTERS must have \d+ bytes, not 8; program the board's own"):
        device.counters()


def test_device_refuses_before_loading(here):
    device = Device(FaultyTransport(0))
    tape = here / "model.tape"
    with pytest.raises(
        TritapeError, match=r"model.tape: groups of the tape must be 13, not 16; pack it with --groups 13$"
    ):
        Device(FaultyTransport(0, groups=13)).load_model(tape)
    with pytest.raises(TritapeError, match=r"^tape: image must have at most 16000 bytes, not 16016; choose a smaller"):
        device.load_tape(bytes(16016))
    with pytest.raises(TritapeError, match=r"^a tape must be loaded before the temperature is set, not none; load one"):
        device.settings(0.7)
    with pytest.raises(TritapeError, match=r"^a sequence must begin with a token, not with none; feed a prompt first$"):
        next(device.generate_tokens([], 1))


def test_other_protocol_version():
    known = f"{PROTOCOL_VERSION} or {BATCH_VERSION}"
    with pytest.raises(
        TritapeError, match=rf"^protocol version of the device must be {known}, not 99; program a bitstream of"
    ):
        Device(FaultyTransport(0, version=99))


def test_tokenizer_with_larger_ids_than_the_vocabulary(refused, here):
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 256}, unk_token="a"))
    tokenizer.save(str(here / "model" / "tokenizer.json"))
    message = (
        "model/tokenizer.json: token ids of a text must be below vocab_size 256, not 256 ('b'); leave it out, or use "
        "the tokenizer of this checkpoint"
    )
    assert refused("generate", "b", "--model", "model") == message
    (here / "model" / "tokenizer.json").write_text("{}")
    assert refused("generate", "b", "--model", "model").startswith(
        "model/tokenizer.json: file must be a tokenizer, not"
    )


def test_token_outside_the_vocabulary(refused, here):
    np.savez(here / "expected.npz", ids=np.full((1, 2), 256), logits=np.zeros((1, 2, 256)))
    assert refused("check", "model", "--against", "expected.npz") == (
        "token id must be from 0 to 255, not 256; use the tokenizer of this checkpoint"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "--model", "model"], "prompt must have at least one token, not none; give some text"),
        (["A", "--temperature", "-1"], "temperature must be 0 or from "),
        (["A", "--temperature", "nan"], "temperature must be 0 or from "),
        (["A", "--temperature", "1e9"], "temperature must be 0 or from "),
        (["A", "--seed", "4294967296"], "seed must be from 0 to 4294967295, not 4294967296; choose another"),
        (["A", "--seed", "-1"], "seed must be from 0 to 4294967295, not -1; choose another"),
        (["A", "--tokens", "0"], "tokens must be at least 1, not 0; ask for more"),
        (["A", "--clock", "0"], "clock must be at least 1 Hz, not 0; give the frequency in Hz"),
        (
            ["A", "--groups", "3", "--model", "model"],
            "groups must be an integer in 4..255, not 3; keep within that range",
        ),
        (["A", "--trace", "out.vcd"], "out.vcd: name of a trace must end in .fst, not '.vcd'; rename it"),
        (["A", "--trace", "no/out.fst"], "no/out.fst: folder must exist, not be missing; create no"),
        (["A", "--json", "no/out.json"], "no/out.json: folder must exist, not be missing; create no"),
        (["\udcff", "--model", "model"], "text must be UTF-8, not contain '\\udcff' at 0; remove it"),
    ],
)
def test_generate(refused, arguments, message):
    assert refused("generate", *arguments).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pack", "model", "-o", "no/x.tape"], "no/x.tape: folder must exist, not be missing; create no"),
        (["pack", "model", "-o", "model"], "model: output must be a file, not a folder; add a file name"),
        (["pack", "model", "--groups", "3"], "groups must be from 4 to 255, not 3; try 16"),
        (["pack", "model", "--rows", "1"], "rows a block must be from 2 to 65535, not 1; try 1024"),
        (["pack", "model", "--rows", "65536"], "rows a block must be from 2 to 65535, not 65536; try 1024"),
        (["estimate", "371m"], "model must be a checkpoint folder or a name, not '371m'; names are 370m"),
        (["estimate", "370m", "--clock", "0"], "clock and bandwidth must be positive, not 0.0 and None; give Hz"),
        (
            ["estimate", "370m", "--read-ahead", "-1"],
            "read-ahead and latency must not be negative, not -1.0 and 0.0; give bytes and cycles",
        ),
        (["estimate", "370m", "--batch", "17"], "batch must be an integer in 1..16, not 17; keep within that range"),
        (
            ["choose", "370m", "--bandwidth", "1e9", "--clock", "1e8", "--part", "up5k"],
            "part must be one of ecp5-25, ecp5-45",
        ),
        (["explore", "no.toml"], "no.toml: space must be a file, not missing; give its path"),
        (["estimate", "370m", "--groups", "3"], "groups must be an integer in 4..255, not 3; keep within that range"),
        (["estimate", "370m", "--json", "no/x.json"], "no/x.json: folder must exist, not be missing; create no"),
        (["perf", "--hidden", "0"], "hidden must be at least 1, not 0; choose another"),
        (["perf", "--hidden", "16385"], "max_hidden must be an integer in 1..16384, not 16385; keep within that range"),
        (["perf", "--vocab", "70000"], "max_vocab must be an integer in 1..65536, not 70000; keep within that range"),
        (["perf", "--tokens", "1"], "tokens must be at least 2, not 1; "),
        (["verilog", "-o", "model.tape"], "model.tape: output must be a folder, not a file; choose another with -o"),
        (["verilog", "-o", "model.tape/out"], "model.tape"),
        (["verilog", "--groups", "3"], "groups must be an integer in 4..255, not 3; keep within that range"),
        (
            ["verilog", "--tables-per-filler", "17"],
            "tables_per_filler must be an integer in 1..16, not 17; keep within that range",
        ),
        (["area", "adder"], "unit must be one of engine, accelerator, not 'adder'; choose one"),
        (["perplexity", "model", "no.txt"], "no.txt: text must be a file, not missing; give its path"),
        (["perplexity", "model", "model"], "model: text must be a file, not a folder; give its path"),
        (
            ["perplexity", "model", "model.tape", "--tokens", "0"],
            "tokens must be at least 1, not 0; leave it out for all",
        ),
        (["perplexity", "model", "model.tape"], "model.tape: text must be UTF-8, not have byte 0x"),
        (["check", "model", "--against", "no.npz"], "no.npz: recorded outputs must be an npz file, not missing; "),
        (
            ["check", "model", "--against", "model.tape"],
            "model.tape: file must be an npz with arrays ids and logits, not ",
        ),
        (
            ["check", "model", "--against", "short.npz"],
            "short.npz: file must be an npz with arrays ids and logits, not ",
        ),
        (
            ["check", "model", "--against", "shape.npz"],
            "shape.npz: shapes of ids and logits must be [n, t] and [n, t, 256]",
        ),
        (["check", "model", "--against", "shape.npz", "--tokens", "-1"], "tokens must be at least 1, not -1; "),
        (
            ["check", "model", "--against", "shape.npz", "--rtl", "--groups", "3"],
            "groups must be an integer in 4..255, not 3; keep within that range",
        ),
    ],
)
def test_other_commands(refused, here, arguments, message):
    np.savez(here / "shape.npz", ids=np.zeros((1, 2), int), logits=np.zeros((1, 2, 255)))
    (here / "short.npz").write_bytes((here / "shape.npz").read_bytes()[:300])
    assert refused(*arguments).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["area", "--by-unit", "--route"], "--route beside --by-unit, not True; take it away"),
        (["area", "engine", "--by-unit"], "unit beside --by-unit, which is of the whole accelerator, not 'engine'"),
        (["area", "--by-unit", "--board", "icebreaker", "--groups", "8"], "--groups beside --board, which has its own"),
        (["area", "--board", "icebreaker"], "--board without --by-unit"),
        (["area", "--seed", "3"], "--seed without --route, not [3]"),
        (
            ["generate", "A", "--model", "model.tape", "--groups", "8"],
            "--groups with a tape, which is packed for its own",
        ),
        (["check", "model", "--against", "no.npz", "--groups", "8"], "--groups without --rtl, not 8; take it away"),
        (["bench", "--cpu", "--baud", "9600"], "--baud without --port"),
        (["bench", "--cpu", "--power-wait", "1"], "--power-wait without csv:FILE"),
        (["bench", "--cpu", "--cpu-power", "rapl", "--power-wait", "1"], "--power-wait without csv:FILE"),
        (
            ["program", "icebreaker", "x.zip", "--dry-run", "--json", "a"],
            "--json beside --dry-run, which loads nothing",
        ),
        (["program", "icebreaker", "x.zip", "--baud", "9600"], "--baud without --port"),
        (["flash", "icebreaker-flash", "t", "--prompt", "A", "--dry-run", "--json", "a"], "--json beside --dry-run"),
        (["perf", "--shape", "370m", "--hidden", "1024"], "--hidden beside --shape, which has its own"),
        (["perf", "--latency", "9"], "--latency for memory ideal; it is of axi only"),
        (["explore", "no.toml", "--scheduler", "x", "--workers", "2"], "--workers beside --scheduler"),
    ],
)
def test_options_that_would_do_nothing(refused, arguments, message):
    """They are refused, not ignored."""
    option, _, why = message.partition(" ")
    assert refused(*arguments).startswith(f"{option} must be left out {why}")


def test_no_compiler(refused, here, monkeypatch):
    monkeypatch.setenv("PATH", str(here))
    message = "C++ compiler must be on PATH as g++ or clang++, not missing; install g++ (Debian: apt install g++)"
    assert refused("generate", "A", "--model", "model", "--json", "out.json") == message
    assert refused("perf") == message
    with pytest.raises(TritapeError, match="install g"):
        toolchain.require_compiler()


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "x"), OSError(28, "No space left on device")]
)
def test_errors_of_the_operating_system(refused, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("tritape.cli.model.read_tape", fail)
    assert refused("inspect", "model.tape") == (
        f"{error.filename or 'file'}: path must be readable or writable, not {error.strerror!r}; "
        "check path, permissions and free space"
    )


def test_interrupted_writes_leave_nothing(here, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    before = sorted(here.rglob("*"))
    from tritape.cli.common import write_json

    with pytest.raises(OSError, match="No space"):
        write_json(here / "out.json", {"a": 1})
    assert sorted(here.rglob("*")) == before
