"""The simulator's side of test_hw_axi_accelerator: the host's own `Device` against AXIAccelerator, on cocotbext-axi memories.

The job is {"bases": [[of a session's ports], ...], "port_bytes", "image": base64 of a tape, "some": bytes of it that are
written over the registers, from word 1 on, "prompt", "count"}. Each session has memories of its own, and the tape put into
them directly. The answer is what each session returned.
"""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, Timer
from cocotb_axi import Region
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave

from tritape.host.device import Device
from tritape.host.transport.registers import RegisterTransport, shape, stripes
from tritape.hw.link.axi_lite import Register


class Memories:
    """Several regions behind one port."""

    def __init__(self, regions: list[Region]) -> None:
        self.regions = regions

    def _region(self, address: int) -> Region:
        (found,) = (region for region in self.regions if 0 <= address - region.base < len(region.data))
        return found

    async def read(self, address: int, size: int) -> bytes:
        return await self._region(address).read(address, size)

    async def write(self, address: int, data: bytes) -> None:
        await self._region(address).write(address, data)


class BusRegisters:
    """`Registers` through the bus, from the thread that the host runs in."""

    def __init__(self, dut: Any) -> None:
        master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "control"), dut.clk, dut.rst)
        self.read, self.write = resume(master.read_dword), resume(master.write_dword)


class Placing(RegisterTransport):
    """What `UIOTransport` is, with the simulation's memory for the buffer."""

    def __init__(self, regions: list[Region], registers: BusRegisters, bases: list[int], pause: Any) -> None:
        super().__init__(registers, bases, "bench", pause)
        self.regions = regions

    def place(self, image: bytes) -> None:
        ports, line_bytes, _ = shape(self._registers)
        for region, part in zip(self.regions, stripes(image, ports, line_bytes)):
            region.data[: len(part)] = part


@cocotb.test()
async def everything(dut: Any) -> None:
    job = json.loads(Path(cocotb.plusargs["job"]).read_text())
    logging.getLogger("cocotb.bench").setLevel("WARNING")
    cocotb.start_soon(Clock(dut.clk, 10, "step").start())
    dut.rst.value = 1
    sessions = [[Region(base, job["port_bytes"]) for base in bases] for bases in job["bases"]]
    for port, regions in enumerate(zip(*sessions)):
        AxiSlave(AxiBus.from_prefix(dut, f"axi_{port}"), dut.clk, dut.rst, target=Memories(list(regions)))
    registers = BusRegisters(dut)
    await Timer(100, "step")
    dut.rst.value = 0

    async def cycles() -> None:
        await ClockCycles(dut.clk, 50)

    def host() -> list[Any]:
        answers, tape = [], base64.b64decode(job["image"])
        for regions in sessions:
            device = Device(
                Placing(regions, registers, [region.base for region in regions], resume(cycles)), retry_s=3600.0
            )
            device.write_memory(1, tape[: job["some"]])
            written = [bytes(region.data).hex() for region in regions]
            back = device.read_memory(1, job["some"] // device.identity.geometry.word_bytes).hex()
            kinds: list[str] = []
            obey = device.link.call

            def call(kind: Any, *rest: Any, kinds: list[str] = kinds, obey: Any = obey) -> Any:
                kinds.append(kind.name)
                return obey(kind, *rest)

            device.link.call = call  # type: ignore[method-assign]
            device.load_tape(tape)
            tokens = list(device.generate_tokens(job["prompt"], job["count"]))
            device.reset()
            logits = [int(value) for value in device.logits(job["prompt"])]
            errors = device.counters()["crc_errors"]
            answers.append({
                "written": written, "back": back, "kinds": kinds, "tokens": tokens, "logits": logits, "errors": errors,
                "state": registers.read(Register.STATE),
            })  # fmt: skip
        return answers

    answers = await bridge(host)()
    Path(cocotb.plusargs["answer"]).write_text(json.dumps(answers))
