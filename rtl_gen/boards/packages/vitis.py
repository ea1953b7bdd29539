"""Alveo: the accelerator as a Vitis RTL kernel with a memory port for each channel, once or in several regions.

Sources: Xilinx UG1393 (RTL kernels, user-managed control, connectivity, assigning compute units to SLRs), AMD DS963 (U280),
DS962 and UG1120 (U250).
"""

from __future__ import annotations

from dataclasses import dataclass

from tritape.base.errors import TritapeError
from tritape.hw.axi_accelerator import port_bytes
from tritape.hw.link.axi_lite import WINDOW_BITS, Register
from tritape.rtl_gen.boards.bus_board import BusBoard
from tritape.rtl_gen.boards.packages.wrapper import CONTROL, TOP, buses, memory_bus

ADDRESS_BITS = 64
VLNV = f"tritape:kernel:{TOP}:1.0"


@dataclass(frozen=True)
class Card:
    """What Vitis needs to know about a card: its platform, and its memory: channels `name[0]`, `name[1]` and so on of
    `channel_bytes` each, at most `channels`, behind ports of `port_bits`. `by_region`: channel n lies in super logic region n, so
    a kernel with one port goes where its channel is."""

    platform: str
    name: str
    channels: int
    channel_bytes: int
    port_bits: int
    by_region: bool = False


def vitis_files(board: BusBoard) -> dict[str, str]:
    """Everything but the Verilog. Raises `TritapeError` for ports or kernels that the card does not have, or a tape too large for
    them."""
    card = _card(board)
    if board.ports * board.replicas > card.channels or board.port_bits != card.port_bits:
        raise TritapeError(
            f"{board.name}: ports of all kernels must be at most {card.channels} of {card.port_bits} bits, not "
            f"{board.ports * board.replicas} of {board.port_bits}; take what the {card.name} has"
        )
    size = port_bytes(board.memory_bytes, board.ports, board.port_bits)
    if size > card.channel_bytes:
        raise TritapeError(
            f"{board.name}: memory_words must need at most {card.channel_bytes} bytes of a channel, not {size}; use more ports"
        )
    return {
        "kernel.xml": _kernel_xml(board),
        "package.tcl": _package(board),
        "link.cfg": _connectivity(board),
        "Makefile": _MAKEFILE,
        "README.md": _readme(board),
    }


def _card(board: BusBoard) -> Card:
    card = board.details["card"]
    assert isinstance(card, Card)
    return card


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
    card, kernels = _card(board), range(1, board.replicas + 1)
    lines = [
        f"platform={card.platform}",
        f"kernel_frequency={board.clock_hz // 1_000_000}",
        "",
        "[connectivity]",
        f"nk={TOP}:{board.replicas}:{'.'.join(f'{TOP}_{kernel}' for kernel in kernels)}",
        *(f"slr={TOP}_{kernel}:SLR{kernel - 1}" for kernel in kernels if card.by_region and board.ports == 1),
        *(
            f"sp={TOP}_{kernel}.{argument(port)}:{card.name}[{(kernel - 1) * board.ports + port}]"
            for kernel in kernels
            for port in range(board.ports)
        ),
    ]
    return "\n".join(lines) + "\n"


_MAKEFILE = """\
# Vivado and Vitis on PATH: make.
all: tritape.xclbin

tritape.xo: package.tcl kernel.xml tritape.v
	vivado -mode batch -nojournal -source package.tcl

tritape.xclbin: tritape.xo link.cfg
	v++ --link --target hw --config link.cfg --output $@ tritape.xo

.PHONY: all
"""


def _readme(board: BusBoard) -> str:
    card, size = _card(board), port_bytes(board.memory_bytes, board.ports, board.port_bits)
    kernels, ports = board.replicas, board.ports
    what = "One kernel" if kernels == 1 else f"{kernels} kernels"
    where = ", each in the super logic region of its channel" if card.by_region and ports == 1 else ""
    banks = (
        f"{card.name}[0] to {card.name}[{ports - 1}]"
        if kernels == 1
        else f"its {ports} of {card.name}[0] to [{kernels * ports - 1}]"
    )
    hosts = ""
    if kernels > 1:
        hosts = (
            f"\nEach of the {kernels} kernels is a device of its own, with the whole tape in its memory: `tritape serve` takes\n"
            "several devices, one `--port` each, and fills the slots of all.\n"
        )
    return f"""\
# tritape for {board.title}

Generated, not routed: nobody has run Vitis on this kernel, and it was never on a card. {what}{where};
memory ports of a kernel: {ports} of {board.port_bits} bits, each on a channel of its own; the clock,
{board.clock_hz / 1e6:g} MHz, is a wish.

`make` writes `tritape.xo` and `tritape.xclbin`. The kernel is user managed: a host opens it as an `xrt::ip`, allocates
{size} bytes in each of {banks}, and gives their addresses to
`tritape.host.transport.registers.RegisterTransport` with two functions that read and write a register. A transport that does
this over XRT is not part of tritape yet.
{hosts}"""
