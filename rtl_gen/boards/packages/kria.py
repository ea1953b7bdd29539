"""Kria starter kits: a Vivado block design around the accelerator, and the overlay with which Linux loads it.

Sources: Xilinx PG201 (processing system: HP0..3 are S_AXI_GP2..5), UG1085 (AFI registers, PL clocks), the kernel's bindings
`xlnx,afi-fpga` and `generic-uio`, u-dma-buf's README, dfx-mgr's README (shell.json).
"""

from __future__ import annotations

import json

from tritape.base.errors import TritapeError
from tritape.hw.axi_accelerator import port_bytes
from tritape.rtl_gen.boards.bus_board import BusBoard
from tritape.rtl_gen.boards.packages.wrapper import CONTROL, TOP, buses, memory_bus

CONTROL_ADDRESS = 0xA000_0000
"""Where the processor sees the registers: the first address of HPM0."""
CONTROL_BYTES = 4096
HP_PORTS = 4
PORT_BITS = 128
ADDRESS_BITS = 40
_MEGABYTE = 1 << 20


def kria_files(board: BusBoard) -> dict[str, str]:
    """Everything but the Verilog. Raises `TritapeError` for ports that the processor does not have."""
    if not 1 <= board.ports <= HP_PORTS or board.port_bits != PORT_BITS:
        raise TritapeError(
            f"{board.name}: ports must be at most {HP_PORTS} of {PORT_BITS} bits, not {board.ports} of {board.port_bits}; "
            "the processor has no others"
        )
    return {
        "vivado.tcl": _vivado(board),
        "tritape.bif": "all:\n{\n\t[destination_device = pl] tritape.bit\n}\n",
        "tritape.dtso": _overlay(board),
        "shell.json": json.dumps({"shell_type": "XRT_FLAT", "num_slots": "1"}, indent=2) + "\n",
        "Makefile": _MAKEFILE,
        "README.md": _readme(board),
    }


def buffer_bytes(board: BusBoard) -> int:
    """Of the u-dma-buf: all ports' parts, in whole megabytes."""
    size = board.ports * port_bytes(board.memory_bytes, board.ports, board.port_bits)
    return -(-size // _MEGABYTE) * _MEGABYTE


def _vivado(board: BusBoard) -> str:
    ports = range(board.ports)
    kit = board.details["kit"]
    connections = " ".join(board.details["connections"])
    config = [
        "CONFIG.PSU__FPGA_PL0_ENABLE 1",
        f"CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ {board.clock_hz / 1e6:g}",
        "CONFIG.PSU__USE__M_AXI_GP0 1",
        "CONFIG.PSU__USE__M_AXI_GP1 0",
        "CONFIG.PSU__USE__M_AXI_GP2 0",
        *(f"CONFIG.PSU__USE__S_AXI_GP{2 + port} 1" for port in ports),
        *(f"CONFIG.PSU__SAXIGP{2 + port}__DATA_WIDTH {PORT_BITS}" for port in ports),
    ]
    clocked = [
        "ps/maxihpm0_fpd_aclk",
        *(f"ps/saxihp{port}_fpd_aclk" for port in ports),
        "reset/slowest_sync_clk",
        "control/aclk",
        "accelerator/ap_clk",
    ]
    lines = [
        f"# {board.title}: block design of the processor and tritape, to the bitstream tritape.bit.",
        "# vivado -mode batch -source vivado.tcl",
        "set here [file dirname [file normalize [info script]]]",
        f"set kit [lindex [get_board_parts -quiet -latest_file_version {{*:{kit}:*}}] 0]",
        f'if {{$kit eq ""}} {{ error "board files of {kit} must be installed, not missing; xhub::install them" }}',
        f"create_project -force tritape [file join $here vivado] -part {board.device}",
        "set_property board_part $kit [current_project]",
        f"set_property board_connections {{{connections}}} [current_project]",
        "add_files -norecurse [file join $here tritape.v]",
        f"set_property top {TOP} [current_fileset]",
        "update_compile_order -fileset sources_1",
        "",
        "create_bd_design system",
        "create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps",
        "apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset 1} [get_bd_cells ps]",
        "set_property -dict {",
        *(f"  {line}" for line in config),
        "} [get_bd_cells ps]",
        "create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset",
        "create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect control",
        "set_property -dict {CONFIG.NUM_SI 1 CONFIG.NUM_MI 1} [get_bd_cells control]",
        f"create_bd_cell -type module -reference {TOP} accelerator",
        "",
        "# The clock that the processor really makes is near the one asked for; interfaces that meet must name the same.",
        "set hz [get_property CONFIG.FREQ_HZ [get_bd_pins ps/pl_clk0]]",
        *(f"set_property CONFIG.FREQ_HZ $hz [get_bd_intf_pins accelerator/{bus}]" for bus in buses(board.ports)),
        *(f"connect_bd_net [get_bd_pins ps/pl_clk0] [get_bd_pins {pin}]" for pin in clocked),
        "connect_bd_net [get_bd_pins ps/pl_resetn0] [get_bd_pins reset/ext_reset_in]",
        *(
            f"connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins {pin}]"
            for pin in ("control/aresetn", "accelerator/ap_rst_n")
        ),
        "connect_bd_intf_net [get_bd_intf_pins ps/M_AXI_HPM0_FPD] [get_bd_intf_pins control/S00_AXI]",
        f"connect_bd_intf_net [get_bd_intf_pins control/M00_AXI] [get_bd_intf_pins accelerator/{CONTROL}]",
        *(
            f"connect_bd_intf_net [get_bd_intf_pins accelerator/{memory_bus(port)}] [get_bd_intf_pins ps/S_AXI_HP{port}_FPD]"
            for port in ports
        ),
        f"assign_bd_address -offset {CONTROL_ADDRESS:#x} -range {CONTROL_BYTES // 1024}K "
        "-target_address_space [get_bd_addr_spaces ps/Data] "
        f"[get_bd_addr_segs -of_objects [get_bd_intf_pins accelerator/{CONTROL}]]",
        *(
            f"assign_bd_address -target_address_space [get_bd_addr_spaces accelerator/{memory_bus(port)}] "
            f"[get_bd_addr_segs ps/SAXIGP{2 + port}/HP{port}_DDR_{half}]"
            for port in ports
            for half in ("LOW", "HIGH")
        ),
        "validate_bd_design",
        "save_bd_design",
        "",
        "add_files -norecurse [make_wrapper -files [get_files system.bd] -top]",
        "set_property top system_wrapper [current_fileset]",
        "update_compile_order -fileset sources_1",
        "launch_runs impl_1 -to_step write_bitstream -jobs 4",
        "wait_on_run impl_1",
        'if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} { error "impl_1 must finish, not stop; see its log" }',
        "set slack [get_property STATS.WNS [get_runs impl_1]]",
        'if {$slack < 0} { error "timing must be met, not missed by $slack ns; build with a slower --clock" }',
        "open_run impl_1",
        "report_utilization -file [file join $here utilization.txt]",
        "report_timing_summary -file [file join $here timing.txt]",
        "file copy -force [file join $here vivado tritape.runs impl_1 system_wrapper.bit] [file join $here tritape.bit]",
    ]
    return "\n".join(lines) + "\n"


def _overlay(board: BusBoard) -> str:
    size = buffer_bytes(board)
    afi = ", ".join(f"<{register} 0>" for register in range(14))
    return f"""\
/dts-v1/;
/plugin/;

/* {board.title}: bitstream, clock, registers (UIO) and memory (u-dma-buf) of tritape. */

&fpga_full {{
	firmware-name = "tritape.bit.bin";
	resets = <&zynqmp_reset 116>;
}};

&amba {{
	#address-cells = <2>;
	#size-cells = <2>;

	/* All ports between processor and fabric 128 bits wide. */
	tritape_afi: tritape-afi {{
		compatible = "xlnx,afi-fpga";
		config-afi = {afi}, <14 0xa00>, <15 0>;
	}};

	/* PL0, the clock of everything. */
	tritape_clock: tritape-clock {{
		compatible = "xlnx,fclk";
		#clock-cells = <0>;
		clocks = <&zynqmp_clk 71>;
		assigned-clocks = <&zynqmp_clk 71>;
		assigned-clock-rates = <{board.clock_hz}>;
		clock-output-names = "fabric_clk";
	}};

	tritape@{CONTROL_ADDRESS:x} {{
		compatible = "generic-uio";
		reg = <0x0 {CONTROL_ADDRESS:#x} 0x0 {CONTROL_BYTES:#x}>;
	}};

	tritape-memory {{
		compatible = "ikwzm,u-dma-buf";
		device-name = "tritape";
		size = <{size >> 32:#x} {size & 0xFFFFFFFF:#x}>;
	}};
}};
"""


_MAKEFILE = """\
# Vivado on PATH: make. Then, on the board: sudo make install load.
FIRMWARE = /lib/firmware/xilinx/tritape

all: tritape.bit.bin tritape.dtbo

tritape.bit: vivado.tcl tritape.v
	vivado -mode batch -nojournal -source vivado.tcl

tritape.bit.bin: tritape.bit tritape.bif
	bootgen -arch zynqmp -image tritape.bif -process_bitstream bin -w

tritape.dtbo: tritape.dtso
	dtc -@ -I dts -O dtb -o $@ $<

install:
	mkdir -p $(FIRMWARE)
	cp tritape.bit.bin tritape.dtbo shell.json $(FIRMWARE)/

load:
	modprobe uio_pdrv_genirq of_id=generic-uio
	modprobe u-dma-buf
	-xmutil unloadapp
	xmutil loadapp tritape

.PHONY: all install load
"""


def _readme(board: BusBoard) -> str:
    room, clock = buffer_bytes(board) // _MEGABYTE, f"{board.clock_hz / 1e6:g}"
    return f"""\
# tritape for {board.title}

Generated, not routed: nobody has run Vivado on this project, and it was never on a board. The clock, {clock}
MHz, is a wish until `timing.txt` says otherwise: `tritape build {board.name} --clock MHZ` asks for another.

1. On a machine with Vivado and the board files of the kit: `make`. It writes `tritape.bit`, `tritape.bit.bin`,
   `tritape.dtbo`, `utilization.txt` and `timing.txt`.
2. On the board, with u-dma-buf built for its kernel and at least {room} MiB of contiguous memory (`cma=` on the
   kernel's command line): `sudo make install load`.
3. `sudo tritape run --port uio:tritape --board {board.name} --model FOLDER "Text"`. The option `--power hwmon:ina260_u14` of
   `tritape bench` measures the power of the module.
"""
