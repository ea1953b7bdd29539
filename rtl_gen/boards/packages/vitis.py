"""Alveo: the accelerator as a Vitis RTL kernel with a memory port for each HBM channel.

Sources: Xilinx UG1393 (RTL kernels, user-managed control, connectivity), AMD DS963 (U280).
"""

from __future__ import annotations

from tritape.base.errors import TritapeError
from tritape.hw.axi_accelerator import port_bytes
from tritape.hw.link.axi_lite import MAX_PORTS, WINDOW_BITS, Register
from tritape.rtl_gen.boards.bus_board import BusBoard
from tritape.rtl_gen.boards.packages.wrapper import CONTROL, TOP, buses, memory_bus

CHANNEL_BYTES = 256 << 20
"""Of one HBM pseudo channel."""
ADDRESS_BITS = 64
VLNV = f"tritape:kernel:{TOP}:1.0"


def vitis_files(board: BusBoard) -> dict[str, str]:
    """Everything but the Verilog. Raises `TritapeError` for ports that the card does not have, or a tape too large for them."""
    if board.ports > MAX_PORTS or board.port_bits != 256:
        raise TritapeError(
            f"{board.name}: ports must be at most {MAX_PORTS} of 256 bits, not {board.ports} of {board.port_bits}; take what the "
            "HBM has"
        )
    size = port_bytes(board.memory_bytes, board.ports, board.port_bits)
    if size > CHANNEL_BYTES:
        raise TritapeError(
            f"{board.name}: memory_words must need at most {CHANNEL_BYTES} bytes of a channel, not {size}; use more ports"
        )
    return {
        "kernel.xml": _kernel_xml(board),
        "package.tcl": _package(board),
        "link.cfg": _connectivity(board),
        "Makefile": _makefile(board),
        "README.md": _readme(board),
    }


def argument(port: int) -> str:
    """Name of the kernel's argument that is the base of a memory port."""
    return f"base{port:02d}"


def _kernel_xml(board: BusBoard) -> str:
    ports = [
        f'      <port name="{CONTROL}" mode="slave" range="{1 << WINDOW_BITS:#x}" dataWidth="32" '
        'portType="addressable" base="0x0"/>',
        *(
            f'      <port name="{memory_bus(port)}" mode="master" range="0xFFFFFFFFFFFFFFFF" dataWidth="{board.port_bits}" '
            'portType="addressable" base="0x0"/>'
            for port in range(board.ports)
        ),
    ]
    arguments = [
        f'      <arg name="{argument(port)}" addressQualifier="1" id="{port}" port="{memory_bus(port)}" size="0x8" '
        f'offset="{Register.BASE + 8 * port:#x}" hostOffset="0x0" hostSize="0x8" type="void*"/>'
        for port in range(board.ports)
    ]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<root versionMajor="1" versionMinor="6">',
        f'  <kernel name="{TOP}" language="ip" vlnv="{VLNV}" attributes="" preferredWorkGroupSizeMultiple="0" workGroupSize="1" '
        'interrupt="false" hwControlProtocol="user_managed">',
        "    <ports>", *ports, "    </ports>", "    <args>", *arguments, "    </args>", "  </kernel>", "</root>",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _package(board: BusBoard) -> str:
    vendor, library, name, version = VLNV.split(":")
    lines = [
        f"# {board.title}: tritape.v to the kernel tritape.xo. vivado -mode batch -source package.tcl",
        "set here [file dirname [file normalize [info script]]]",
        f"create_project -force package [file join $here package] -part {board.device}",
        "add_files -norecurse [file join $here tritape.v]",
        f"set_property top {TOP} [current_fileset]",
        "update_compile_order -fileset sources_1",
        f"ipx::package_project -root_dir [file join $here ip] -vendor {vendor} -library {library} -taxonomy /KernelIP "
        "-import_files -set_current true",
        "set core [ipx::current_core]",
        f"set_property name {name} $core",
        f"set_property version {version} $core",
        *(f"ipx::associate_bus_interfaces -busif {bus} -clock ap_clk $core" for bus in buses(board.ports)),
        "set_property sdx_kernel true $core",
        "set_property sdx_kernel_type rtl $core",
        "ipx::create_xgui_files $core",
        "ipx::update_checksums $core",
        "ipx::save_core $core",
        f"package_xo -force -xo_path [file join $here tritape.xo] -kernel_name {TOP} -ip_directory [file join $here ip] "
        "-kernel_xml [file join $here kernel.xml]",
    ]
    return "\n".join(lines) + "\n"


def _connectivity(board: BusBoard) -> str:
    lines = [
        f"platform={board.details['platform']}",
        f"kernel_frequency={board.clock_hz // 1_000_000}",
        "",
        "[connectivity]",
        f"nk={TOP}:1:{TOP}_1",
        *(f"sp={TOP}_1.{argument(port)}:HBM[{port}]" for port in range(board.ports)),
    ]
    return "\n".join(lines) + "\n"


def _makefile(board: BusBoard) -> str:
    return """\
# Vivado and Vitis on PATH: make.
all: tritape.xclbin

tritape.xo: package.tcl kernel.xml tritape.v
	vivado -mode batch -nojournal -source package.tcl

tritape.xclbin: tritape.xo link.cfg
	v++ --link --target hw --config link.cfg --output $@ tritape.xo

.PHONY: all
"""


def _readme(board: BusBoard) -> str:
    size = port_bytes(board.memory_bytes, board.ports, board.port_bits)
    return f"""\
# tritape for {board.title}

Generated, not routed: nobody has run Vitis on this kernel, and it was never on a card. {board.ports} memory ports of
{board.port_bits} bits, each on an HBM channel of its own; the clock, {board.clock_hz / 1e6:g} MHz, is a wish.

`make` writes `tritape.xo` and `tritape.xclbin`. The kernel is user managed: a host opens it as an `xrt::ip`, allocates
{size} bytes in each of HBM[0] to HBM[{board.ports - 1}], and gives their addresses to
`tritape.host.transport.registers.RegisterTransport` with two functions that read and write a register. A transport that does
this over XRT is not part of tritape yet.
"""
