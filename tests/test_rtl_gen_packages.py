"""Packages for Vivado and Vitis: all that can be checked without them: both ends of every connection, widths, offsets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest

from tritape.base import simulators
from tritape.base.errors import TritapeError
from tritape.hw.axi_accelerator import port_bytes
from tritape.hw.config import Config
from tritape.hw.link.axi_lite import WINDOW_BITS, Register
from tritape.rtl_gen.archive import read_archive
from tritape.rtl_gen.boards import BusBoard, board
from tritape.rtl_gen.boards.packages.kria import CONTROL_ADDRESS
from tritape.rtl_gen.boards.packages.wrapper import wrapper_verilog
from tritape.rtl_gen.build import VENDOR_STEPS, build
from tritape.rtl_gen.fit import require_device
from tritape.rtl_gen.verilog import waivers
from tritape.sim.virtual_board import VirtualBoard

STUB = Path(__file__).parent / "data" / "vendor_stub.tcl"
KRIAS = ("kv260", "kr260")


def interfaces(made: BusBoard) -> dict[str, dict[str, int]]:
    """Of the wrapper: bits of every signal, by interface (`ap_clk` and `ap_rst_n` by themselves)."""
    text = wrapper_verilog(ports=made.ports, port_bits=made.port_bits, address_bits=made.address_bits)
    found: dict[str, dict[str, int]] = {}
    for high, name in re.findall(r"^  (?:input|output) wire (?:\[(\d+):0\] )?(\w+),?$", text, re.MULTILINE):
        bus, _, signal = name.rpartition("_") if name.startswith(("s_axi", "m_axi")) else (name, "", "")
        found.setdefault(bus, {})[signal] = int(high or 0) + 1
    return found


def run_tcl(script: str, folder: Path) -> list[list[str]]:
    """The commands of Vivado that a script gives."""
    (folder / "script.tcl").write_text(script)
    start = f"set script {{{folder}/script.tcl}}; set record {{{folder}/record}}; source {{{STUB}}}"
    if tclsh := shutil.which("tclsh"):
        done = subprocess.run([tclsh], input=start, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
    else:
        tkinter = pytest.importorskip("tkinter", reason="there is no Tcl: neither tclsh nor tkinter")
        tkinter.Tcl().eval(start)
    return [line.split("\t") for line in (folder / "record").read_text().splitlines()]


def check_block_design(calls: list[list[str]], made: BusBoard) -> None:
    """Every end of every connection is there; every input is driven once; widths agree."""
    config: dict[str, str] = {}
    cells: dict[str, str] = {}
    nets, buses = [], []
    for call in calls:
        if call[0] == "create_bd_cell":
            cells[call[-1]] = call[-2]
        elif call[0] == "set_property" and call[1] == "-dict":
            words = call[2].split()
            config |= {f"{call[3]}/{key}": value for key, value in zip(words[::2], words[1::2])}
        elif call[0] == "connect_bd_net":
            nets.append((call[1], call[2]))
        elif call[0] == "connect_bd_intf_net":
            buses.append((call[1], call[2]))
    assert cells == {
        "ps": "xilinx.com:ip:zynq_ultra_ps_e", "reset": "xilinx.com:ip:proc_sys_reset",
        "control": "xilinx.com:ip:smartconnect", "accelerator": "tritape",
    }  # fmt: skip

    wrapper = interfaces(made)
    hp = [port for port in range(4) if config.get(f"ps/CONFIG.PSU__USE__S_AXI_GP{2 + port}") == "1"]
    assert config["ps/CONFIG.PSU__FPGA_PL0_ENABLE"] == config["ps/CONFIG.PSU__USE__M_AXI_GP0"] == "1"
    assert float(config["ps/CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"]) * 1e6 == made.clock_hz
    for port in hp:
        assert int(config[f"ps/CONFIG.PSU__SAXIGP{2 + port}__DATA_WIDTH"]) == wrapper[f"m_axi_{port:02d}"]["rdata"]
    drivers = {"ps/pl_clk0", "ps/pl_resetn0", "reset/peripheral_aresetn"}
    sinks = {
        "ps/maxihpm0_fpd_aclk", "reset/slowest_sync_clk", "reset/ext_reset_in", "control/aclk", "control/aresetn",
        "accelerator/ap_clk", "accelerator/ap_rst_n", *(f"ps/saxihp{port}_fpd_aclk" for port in hp),
    }  # fmt: skip
    assert {source for source, _ in nets} == drivers
    assert sorted(sink for _, sink in nets) == sorted(sinks)
    assert ("ps/pl_clk0", "accelerator/ap_clk") in nets
    assert ("reset/peripheral_aresetn", "accelerator/ap_rst_n") in nets
    managers = {
        "ps/M_AXI_HPM0_FPD",
        "control/M00_AXI",
        *(f"accelerator/{bus}" for bus in wrapper if bus.startswith("m_axi")),
    }
    subordinates = {"control/S00_AXI", "accelerator/s_axi_control", *(f"ps/S_AXI_HP{port}_FPD" for port in hp)}
    assert sorted(source for source, _ in buses) == sorted(managers)
    assert sorted(sink for _, sink in buses) == sorted(subordinates)
    assert ("control/M00_AXI", "accelerator/s_axi_control") in buses

    assigned = [call for call in calls if call[0] == "assign_bd_address"]
    control = assigned.pop(0)
    assert control[1:7] == ["-offset", f"{CONTROL_ADDRESS:#x}", "-range", "4K", "-target_address_space", "ps/Data"]
    assert control[7] == "accelerator/s_axi_control"
    assert [(call[2], call[3]) for call in assigned] == [
        (f"accelerator/m_axi_{port:02d}", f"ps/SAXIGP{2 + port}/HP{port}_DDR_{half}")
        for port in hp
        for half in ("LOW", "HIGH")
    ]
    for source, sink in buses:
        if source.startswith("accelerator/"):
            assert source[-2:] == f"0{sink[-5]}", "a port and its HP port have the same number: their segments do"
    order = [call[0] for call in calls]
    assert order.index("validate_bd_design") < order.index("make_wrapper") < order.index("launch_runs")


@pytest.mark.parametrize("name", KRIAS)
@pytest.mark.parametrize("ports", [1, 4])
def test_block_design(name: str, ports: int, tmp_path: Path) -> None:
    made = replace(board(name), ports=ports)
    files = made.files(made)
    calls = run_tcl(files[made.main], tmp_path)
    check_block_design(calls, made)
    assert ["get_board_parts", "-quiet", "-latest_file_version", f"*:{name}_som:*"] in calls
    connections = next(call[2] for call in calls if call[:2] == ["set_property", "board_connections"])
    assert all(f":{name}_carrier:" in word for word in connections.split()[1::2])
    assert any(call[0] == "create_project" and call[-1] == made.device for call in calls)


def test_a_wrong_block_design_is_found(tmp_path: Path) -> None:
    """The check itself: every connection left out, and some names wrong, must show."""
    made = board("kv260")
    script = made.files(made)[made.main]
    lines = [line for line in script.splitlines() if line.startswith(("connect_bd", "assign_bd", "create_bd_cell"))]
    assert len(lines) > 25
    wrong = [script.replace(line + "\n", "") for line in lines]
    wrong += [script.replace(*change) for change in (
        ("pins ps/S_AXI_HP2_FPD", "pins ps/S_AXI_HP1_FPD"), ("saxihp3_fpd_aclk", "saxihp4_fpd_aclk"),
        ("GP4__DATA_WIDTH 128", "GP4__DATA_WIDTH 64"), ("S_AXI_GP5 1", "S_AXI_GP5 0"), ("HP1_DDR_LOW", "HP2_DDR_LOW"),
        ("accelerator/m_axi_03]", "accelerator/m_axi_04]"), ("0xa0000000", "0xb0000000"), ("FREQMHZ 250", "FREQMHZ 100"),
    )]  # fmt: skip
    for number, text in enumerate(wrong):
        assert text != script
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises((AssertionError, KeyError)):
            check_block_design(run_tcl(text, folder), made)


def cells_of(text: str, name: str) -> list[int]:
    """The numbers of a property of a device tree source."""
    found = re.search(rf"\b{re.escape(name)} = ([^;]*);", text)
    assert found, name
    return [int(number, 0) for number in re.findall(r"0x[0-9a-f]+|\d+", re.sub(r"&\w+", "", found[1]))]


@pytest.mark.parametrize("name", KRIAS)
def test_overlay_fits_the_block_design(name: str) -> None:
    made = board(name)
    files = made.files(made)
    text = files["tritape.dtso"]
    assert text.count("{") == text.count("}") == 6
    assert cells_of(text, "reg") == [0, CONTROL_ADDRESS, 0, 1 << WINDOW_BITS]
    high, low = cells_of(text, "size")
    assert high << 32 | low >= made.ports * port_bytes(made.memory_bytes, made.ports, made.port_bits)
    assert cells_of(text, "assigned-clock-rates") == [made.clock_hz]
    afi = cells_of(text, "config-afi")
    assert dict(zip(afi[::2], afi[1::2])) == dict.fromkeys(range(14), 0) | {14: 0xA00, 15: 0}
    assert f"tritape@{CONTROL_ADDRESS:x} {{" in text, "the UIO device's name is the node's"
    assert 'device-name = "tritape";' in text
    assert json.loads(files["shell.json"])["shell_type"] == "XRT_FLAT"
    assert "tritape.bit.bin" in text
    assert "tritape.bit " in files["tritape.bif"].replace("\n", " ")


def test_overlay_compiles(tmp_path: Path) -> None:
    if not shutil.which("dtc"):
        pytest.skip("dtc is not installed: apt install device-tree-compiler")
    for name in KRIAS:
        made = board(name)
        source, binary = tmp_path / "tritape.dtso", tmp_path / "tritape.dtbo"
        source.write_text(made.files(made)["tritape.dtso"])
        command = ["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", str(binary), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert binary.read_bytes()[:4] == bytes.fromhex("d00dfeed")


def check_kernel(files: dict[str, str], made: BusBoard, calls: list[list[str]]) -> None:
    """kernel.xml, the packaging script and the connectivity name the wrapper's ports and the link's registers."""
    kernel = ElementTree.fromstring(files["kernel.xml"].split("?>", 1)[1]).find("kernel")
    assert kernel is not None
    assert kernel.get("hwControlProtocol") == "user_managed"
    wrapper = interfaces(made)
    ports = {port.get("name"): port for port in kernel.iter("port")}
    assert {"ap_clk", "ap_rst_n", *ports} == set(wrapper)
    for name, port in ports.items():
        assert int(port.get("dataWidth", "")) == wrapper[name]["rdata"] == wrapper[name]["wdata"]
        if name == "s_axi_control":
            assert port.get("mode") == "slave"
            assert int(port.get("range", ""), 0) == 1 << wrapper[name]["araddr"]
        else:
            assert port.get("mode") == "master"
            assert int(port.get("range", ""), 0) == (1 << wrapper[name]["araddr"]) - 1
    arguments = list(kernel.iter("arg"))
    assert [int(argument.get("id", "")) for argument in arguments] == list(range(made.ports))
    for number, argument in enumerate(arguments):
        assert int(argument.get("offset", ""), 0) == Register.BASE + 8 * number
        assert argument.get("size") == argument.get("hostSize") == "0x8"
        assert argument.get("port") == f"m_axi_{number:02d}"
        assert argument.get("addressQualifier") == "1"
    names = [argument.get("name") for argument in arguments]
    card = made.details["card"]
    kernels = re.search(r"^nk=tritape:(\d+):(\S+)$", files["link.cfg"], re.MULTILINE)
    assert kernels is not None
    assert int(kernels[1]) == made.replicas
    assert kernels[2].split(".") == [f"tritape_{number + 1}" for number in range(made.replicas)]
    memories = re.findall(rf"^sp=(\w+)\.(\w+):{card.name}\[(\d+)\]$", files["link.cfg"], re.MULTILINE)
    assert [(kernel, name) for kernel, name, _ in memories] == list(product(kernels[2].split("."), names))
    assert [int(channel) for _, _, channel in memories] == list(range(made.replicas * made.ports))
    assert len(memories) <= card.channels
    regions = re.findall(r"^slr=(\w+):SLR(\d+)$", files["link.cfg"], re.MULTILINE)
    if card.by_region and made.ports == 1:
        assert regions == [(kernel, channel) for kernel, _, channel in memories], "a kernel is where its channel is"
    else:
        assert regions == []
    assert f"kernel_frequency={made.clock_hz / 1e6:g}\n" in files["link.cfg"]

    packaged = next(call for call in calls if call[0] == "ipx::package_project")
    word = {key: value for key, value in pairwise(packaged) if key.startswith("-")}
    properties = {call[1]: call[2] for call in calls if call[0] == "set_property"}
    assert kernel.get("vlnv") == ":".join(
        (word["-vendor"], word["-library"], properties["name"], properties["version"])
    )
    associated = [call[2] for call in calls if call[0] == "ipx::associate_bus_interfaces"]
    assert associated == list(ports)
    final = calls[-1]
    assert final[0] == "package_xo"
    assert final[final.index("-kernel_name") + 1] == kernel.get("name") == properties["top"]


@pytest.mark.parametrize("ports", [4, 32])
def test_vitis_kernel(ports: int, tmp_path: Path) -> None:
    made = replace(board("u280"), ports=ports)
    files = made.files(made)
    calls = run_tcl(files["package.tcl"], tmp_path)
    check_kernel(files, made, calls)
    for name, *change in (
        ("kernel.xml", 'offset="0x110"', 'offset="0x10c"'), ("kernel.xml", 'dataWidth="256"', 'dataWidth="512"'),
        ("link.cfg", "HBM[2]", "HBM[1]"), ("link.cfg", "base01", "base1"),
        ("kernel.xml", "kernel:tritape:1.0", "kernel:tritape:1.1"),
    ):  # fmt: skip
        assert change[0] in files[name]
        with pytest.raises(AssertionError):
            check_kernel(files | {name: files[name].replace(*change)}, made, calls)


@pytest.mark.parametrize(("ports", "replicas"), [(1, 4), (1, 2), (2, 2), (4, 1)])
def test_kernels_of_the_u250(ports: int, replicas: int, tmp_path: Path) -> None:
    """A kernel a channel and region, or more channels a kernel, and then wherever Vitis puts it."""
    made = replace(board("u250"), ports=ports, replicas=replicas)
    files = made.files(made)
    calls = run_tcl(files["package.tcl"], tmp_path)
    check_kernel(files, made, calls)
    assert f"platform={made.details['card'].platform}\n" in files["link.cfg"]
    assert ("`tritape serve` takes" in files["README.md"]) == (replicas > 1)
    wrong = [("DDR[1]", "DDR[0]"), ("nk=tritape:", "nk=tritape:1")]
    if ports == 1:
        wrong += [("slr=tritape_2:SLR1", "slr=tritape_2:SLR0"), ("slr=tritape_1:SLR0\n", "")]
    for change in wrong:
        assert change[0] in files["link.cfg"]
        with pytest.raises(AssertionError):
            check_kernel(files | {"link.cfg": files["link.cfg"].replace(*change)}, made, calls)


SMALL = Config(groups=4, max_hidden=32, max_intermediate=48, max_layers=2, max_vocab=256, max_rows=128)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("kr260", {"ports": 2}, marks=pytest.mark.long),
        pytest.param("u280", {"ports": 1}, marks=pytest.mark.long),
        pytest.param("u250", {"replicas": 2}, marks=pytest.mark.long),
    ],
)
def test_archive_and_lint(name: str, change: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole build with a small accelerator; Verilator reads the Verilog without a warning that is not waived."""
    made = replace(board(name), config=SMALL, memory_words=4096, **change)
    told = []
    result = build(made, tmp_path, progress=lambda *step: told.append(step[2]))
    assert told == list(VENDOR_STEPS)
    assert (result.fmax_mhz, result.timing_met) == (None, None)
    about, main = read_archive(Path(result.archive))
    assert about["state"] == "generated, not routed"
    assert (about["device"], about["baud"]) == (made.device, None)
    assert Path(result.bitstream).read_bytes() == main
    assert {path.name for path in (tmp_path / name).iterdir()} == {"tritape.v", *made.files(made)}
    styles = re.findall(r'ram_style = "(\w+)"', (tmp_path / name / "tritape.v").read_text())
    assert set(styles) >= {style for _, style in made.memory_styles}
    (tmp_path / "tritape.vlt").write_text(waivers())
    program = simulators.verilator_root() / "bin" / "verilator_bin"
    done = subprocess.run(
        [program, "--lint-only", "-Wall", "--quiet", "--top-module", "tritape", "tritape.vlt", f"{name}/tritape.v"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "VERILATOR_ROOT": str(simulators.verilator_root())},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "kv260",
            {"ports": 8},
            r"^kv260: ports must be at most 4 of 128 bits, not 8 of 128; the processor has no others$",
        ),
        (
            "u280",
            {"port_bits": 512},
            r"^u280: ports of all kernels must be at most 32 of 256 bits, not 4 of 512; take what the HBM has$",
        ),
        (
            "u250",
            {"ports": 2},
            r"^u250: ports of all kernels must be at most 4 of 512 bits, not 8 of 512; take what the DDR has$",
        ),
        (
            "u280",
            {"ports": 1},
            r"^u280: memory_words must need at most 268435456 bytes of a channel, not \d+; use more",
        ),
    ],
)
def test_memory_that_is_not_there(name: str, change: dict[str, int], message: str) -> None:
    made = replace(board(name), **change)
    with pytest.raises(TritapeError, match=message):
        made.files(made)


def test_what_cannot_be() -> None:
    made = board("kv260")
    with pytest.raises(
        TritapeError, match=r"^kv260: design must need at most 288 block RAMs, not 501; use fewer memory_words"
    ):
        require_device(made, f"module \\core\n  memory width 36 size {501 * 512} \\mem\n")
    require_device(made, f"module \\core\n  memory width 36 size {288 * 512} \\mem\n")
    styles = (("*core/mem*", "ultra"),)
    require_device(replace(made, memory_styles=styles), f"module \\core\n  memory width 36 size {501 * 512} \\mem\n")
    with pytest.raises(TritapeError, match=r"^kv260: design must need at most 288 block RAMs, not 290; use fewer"):
        require_device(replace(made, replicas=2), f"module \\core\n  memory width 36 size {145 * 512} \\mem\n")
    with pytest.raises(TritapeError, match=r"^kv260: replicas must be a positive integer, not 0; set it$"):
        replace(made, replicas=0)
    with pytest.raises(TritapeError, match=r"^name of a board must be of a-z, .* not 'KV 260'; rename it$"):
        replace(made, name="KV 260")
    with pytest.raises(TritapeError, match=r"^kv260: clock_hz must be a positive integer, not 2\.5; set it$"):
        replace(made, clock_hz=2.5)
    with pytest.raises(
        TritapeError, match=r"^board must be one with a UART, not 'kv260', to be run in simulation; choose"
    ):
        VirtualBoard(made)
