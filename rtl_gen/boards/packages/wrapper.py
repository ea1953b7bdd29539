"""`AXIAccelerator` as a Verilog module with the port names by which Vivado and Vitis know AXI interfaces."""

from __future__ import annotations

from amaranth.lib.wiring import Out, Signature

from tritape.hw.link.axi_lite import AXILiteSignature
from tritape.hw.memory.axi_bus import ADDRESS_BITS, AXISignature

TOP = "tritape"
CORE = "tritape_core"
CONTROL = "s_axi_control"


def memory_bus(port: int) -> str:
    """Name of the interface of memory port `port`."""
    return f"m_axi_{port:02d}"


def buses(ports: int) -> list[str]:
    """Names of all interfaces."""
    return [CONTROL, *(memory_bus(port) for port in range(ports))]


def wrapper_verilog(*, ports: int, port_bits: int, address_bits: int) -> str:
    """Verilog of module `TOP`: clock `ap_clk`, reset `ap_rst_n` (low, synchronous), `CONTROL`, and `ports` buses of `port_bits`
    data bits and `address_bits` (40 or more) address bits, around module `CORE`, an `AXIAccelerator`."""
    declared = ["input wire ap_clk", "input wire ap_rst_n"]
    connected = [".clk(ap_clk)", ".rst(reset)"]
    interfaces: list[tuple[str, Signature, str, bool]] = [
        (CONTROL, AXILiteSignature(), "control", True),
        *((memory_bus(port), AXISignature(port_bits), f"axi__{port}", False) for port in range(ports)),
    ]
    for bus, signature, inner, flipped in interfaces:
        for name, member in signature.members.items():
            bits = member.shape if isinstance(member.shape, int) else 1
            outward = (member.flow == Out) != flipped
            wide = name in ("araddr", "awaddr") and not flipped
            width = f"[{(address_bits if wide else bits) - 1}:0] " if bits > 1 else ""
            declared.append(f"{'output' if outward else 'input'} wire {width}{bus}_{name}")
            part = f"[{ADDRESS_BITS - 1}:0]" if wide else ""
            connected.append(f".{inner}__{name}({bus}_{name}{part})")
    high = [
        f"  assign {memory_bus(port)}_{name}[{address_bits - 1}:{ADDRESS_BITS}] = {address_bits - ADDRESS_BITS}'b0;"
        for port in range(ports)
        for name in ("araddr", "awaddr")
        if address_bits > ADDRESS_BITS
    ]
    together = ":".join(buses(ports))
    clock = [
        '  (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 ap_clk CLK",',
        f'     X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF {together}, ASSOCIATED_RESET ap_rst_n" *)',
    ]
    reset = [
        '  (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 ap_rst_n RST",',
        '     X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)',
    ]
    ends = [","] * (len(declared) - 1) + [""]
    lines = [f"  {port}{end}" for port, end in zip(declared, ends)]
    text = [
        f"module {TOP} (", *clock, lines[0], *reset, *lines[1:], ");", "  reg reset = 1'b1;",
        "  always @(posedge ap_clk) reset <= ~ap_rst_n;", *high,
        f"  {CORE} core (", *(f"    {port}{end}" for port, end in zip(connected, [","] * (len(connected) - 1) + [""])),
        "  );", "endmodule",
    ]  # fmt: skip
    return "\n".join(text) + "\n"
