"""The simulator's side of test_hw_axi_lite: AXILiteLink between cocotbext-axi's manager and stalling byte streams.

The job is {"ports", "line_bytes", "port_bytes", "seed", "stall", "count"}. The answer is the bytes that were moved and the
cycles of single accesses.
"""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, Timer
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from tritape.hw.link.axi_lite import MAGIC, AXILiteLink, Register


class Bench:
    def __init__(self, dut: Any, job: dict[str, Any]) -> None:
        self.dut, self.job, self.rng = dut, job, random.Random(job["seed"])
        logging.getLogger("cocotb.bench").setLevel("WARNING")
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "axi"), dut.clk, dut.rst)
        self.channels = (
            self.master.write_if.aw_channel, self.master.write_if.w_channel, self.master.write_if.b_channel,
            self.master.read_if.ar_channel, self.master.read_if.r_channel,
        )  # fmt: skip
        self.received = bytearray()
        self.to_send: list[int] = []
        self.stall = job["stall"]
        """Share of the cycles in which a stream rests; 1: it stands."""

    def pauses(self, on: bool) -> None:
        for number, channel in enumerate(self.channels):
            channel.clear_pause_generator()
            channel.pause = False
            if on:
                channel.set_pause_generator(self._pauses(random.Random(f"{self.job['seed']} {number}")))

    @staticmethod
    def _pauses(rng: random.Random) -> Any:
        while True:
            yield rng.random() < 0.4

    async def streams(self) -> None:
        """Take what comes in `received`, offer `to_send` in `sent`, both at random."""
        dut, rng, ready, held = self.dut, self.rng, 0, None
        while True:
            await RisingEdge(dut.clk)
            valid = int(dut.received_valid.value)
            if held is not None:
                assert (valid, int(dut.received_payload.value)) == (1, held), "a byte was taken back"
            held = int(dut.received_payload.value) if valid and not ready else None
            if valid and ready:
                self.received.append(int(dut.received_payload.value))
            offered = int(dut.sent_valid.value)
            if offered and int(dut.sent_ready.value):
                self.to_send.pop(0)
                offered = 0
            if self.to_send and (offered or rng.random() >= self.stall):
                dut.sent_payload.value, dut.sent_valid.value = self.to_send[0], 1
            else:
                dut.sent_valid.value = 0
            ready = int(rng.random() >= self.stall)
            dut.received_ready.value = ready

    async def read(self, register: int) -> int:
        return await self.master.read_dword(register)

    async def write(self, register: int, value: int) -> None:
        await self.master.write_dword(register, value)

    async def status(self) -> tuple[int, int]:
        value = await self.read(Register.STATUS)
        return value & 0xFFFF, value >> 16

    async def exchange(self, count: int) -> None:
        """`count` bytes each way, in words and single bytes, as STATUS allows."""
        out, back = self.rng.randbytes(count), self.rng.randbytes(count)
        self.received.clear()
        self.to_send += back
        came, at = bytearray(), 0
        while at < count or len(came) < count:
            waiting, room = await self.status()
            for _ in range(self.rng.randrange(1, 9)):
                size = self.rng.choice((1, 4))
                if size <= min(room, count - at):
                    register = Register.WORD if size == 4 else Register.BYTE
                    junk = 0 if size == 4 else self.rng.getrandbits(24) << 8
                    await self.write(register, int.from_bytes(out[at : at + size], "little") | junk)
                    at, room = at + size, room - size
                size = self.rng.choice((1, 4))
                if size <= waiting:
                    value = await self.read(Register.WORD if size == 4 else Register.BYTE)
                    came += value.to_bytes(4, "little")[:size]
                    assert value >> 8 * size == 0
                    waiting -= size
        await ClockCycles(self.dut.clk, 200)
        while len(self.received) < count and self.stall < 1:
            await RisingEdge(self.dut.clk)
        assert bytes(came) == back
        assert bytes(self.received) == out


async def constants(bench: Bench) -> None:
    job, dut = bench.job, bench.dut
    assert await bench.read(Register.ID) == MAGIC
    assert await bench.read(Register.SHAPE) == job["ports"] | job["line_bytes"] << 8
    assert await bench.read(Register.SIZE) == job["port_bytes"] // 4096
    assert await bench.status() == (0, AXILiteLink.DEPTH - 1)
    for errors, status in ((0xFFFF, 0b11), (0, 0), (0xBEEF, 0b10)):
        dut.errors.value, dut.status.value = errors, status
        assert await bench.read(Register.STATE) == errors << 16 | status
    wanted: dict[int, int] = {}
    for ones in (1, 0, None):  # every bit of a base goes both ways; then none is that of a neighbour
        for port in bench.rng.sample(range(job["ports"]), job["ports"]):
            wanted[port] = bench.rng.getrandbits(40) if ones is None else ones * ((1 << 40) - 1)
            await bench.write(Register.BASE + 8 * port, wanted[port] & 0xFFFFFFFF)
            await bench.write(Register.BASE + 8 * port + 4, wanted[port] >> 32 | 0xABCDEF00)
        for port, base in wanted.items():
            assert int(getattr(dut, f"base_{port}").value) == base >> 12 << 12
    for address in (Register.ID, Register.STATE, Register.SHAPE, Register.SIZE, 0x200, 0x900, 0xFFC, 0x1C):
        await bench.write(address, 0xFFFFFFFF)  # no such registers, or read only
    behind = [Register.BASE + 8 * job["ports"] + half for half in (0, 4) if job["ports"] < 32]
    for address in behind:
        await bench.write(address, 0xFFFFFFFF)
    for port, base in wanted.items():
        low, high = await bench.read(Register.BASE + 8 * port), await bench.read(Register.BASE + 8 * port + 4)
        assert low | high << 32 == base >> 12 << 12
    for address in (0x1C, 0x200, 0x900, 0xFFC, *behind):
        assert await bench.read(address) == 0
    assert await bench.read(Register.ID) == MAGIC


async def full_and_empty(bench: Bench) -> None:
    """Bytes without room are dropped, bytes that are not there read as 0, and neither hangs."""
    depth = AXILiteLink.DEPTH
    assert await bench.read(Register.WORD) == 0
    assert await bench.read(Register.BYTE) == 0
    before, bench.stall = bench.stall, 1
    bench.received.clear()
    sent = bench.rng.randbytes(depth + 40)
    for at in range(0, len(sent), 4):
        await bench.write(Register.WORD, int.from_bytes(sent[at : at + 4], "little"))
    assert (await bench.status())[1] == 0
    bench.stall = 0
    await ClockCycles(bench.dut.clk, depth + 100)
    assert bytes(bench.received) == sent[:depth]
    back = bench.rng.randbytes(depth + 40)
    bench.to_send += back
    await ClockCycles(bench.dut.clk, depth + 100)
    assert (await bench.status())[0] == depth
    came = bytearray()
    while waiting := (await bench.status())[0]:
        size = 4 if waiting >= 4 else 1
        came += (await bench.read(Register.WORD if size == 4 else Register.BYTE)).to_bytes(4, "little")[:size]
    assert bytes(came) == back
    bench.to_send += [7, 8]
    await ClockCycles(bench.dut.clk, 20)
    assert await bench.read(Register.WORD) == 0x0807, "two of four bytes were there"
    bench.stall = before


async def cycles(bench: Bench, access: Any) -> int:
    """Of one access: from its valid to the end of its response."""
    dut, count = bench.dut, [0, 0]

    async def watch() -> None:
        while True:
            await RisingEdge(dut.clk)
            if int(dut.axi_awvalid.value) or int(dut.axi_arvalid.value) or count[0]:
                count[0] += 1
            if (int(dut.axi_bvalid.value) and int(dut.axi_bready.value)) or (
                int(dut.axi_rvalid.value) and int(dut.axi_rready.value)
            ):
                count[1] = count[0]

    task = cocotb.start_soon(watch())
    await access
    task.cancel()
    return count[1]


@cocotb.test()
async def everything(dut: Any) -> None:
    job = json.loads(Path(cocotb.plusargs["job"]).read_text())
    for name in ("received_ready", "sent_valid", "sent_payload", "errors", "status"):
        getattr(dut, name).value = 0
    cocotb.start_soon(Clock(dut.clk, 10, "step").start())
    dut.rst.value = 1
    bench = Bench(dut, job)
    await Timer(100, "step")
    dut.rst.value = 0
    cocotb.start_soon(bench.streams())
    taken = {}
    for name in ("BYTE", "WORD", "BASE"):
        taken[f"write {name}"] = await cycles(bench, bench.write(Register[name], 0))
    await ClockCycles(dut.clk, 100)
    bench.to_send += bytes(5)
    await ClockCycles(dut.clk, 100)
    for name in ("STATUS", "BYTE", "WORD"):
        taken[f"read {name}"] = await cycles(bench, bench.read(Register[name]))
    for on in (False, True):
        bench.pauses(on)
        await constants(bench)
        await full_and_empty(bench)
        await bench.exchange(job["count"])
    Path(cocotb.plusargs["answer"]).write_text(json.dumps(taken))
