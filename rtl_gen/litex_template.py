"""The accelerator `tritape` for a LiteX SoC: its byte streams, or registers in their place, and the streams of its memory.

Needs `tritape.v` and `tritape.json` beside it, LiteX, and nothing of tritape. In a SoC, with a memory in block RAM:

    from tritape_litex import BlockMemory, Tritape
    self.tritape = Tritape(platform)
    self.tritape_memory = BlockMemory(self.tritape, words=4096)
    self.tritape.add_registers()
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from litex.gen import LiteXModule, Open
from litex.soc.cores.uart import UART
from litex.soc.interconnect import stream
from litex.soc.interconnect.csr import CSRField, CSRStatus
from migen import ClockSignal, If, Instance, Memory, ResetSignal, Signal

NAME = "tritape"
HERE = Path(__file__).resolve().parent


class Tritape(LiteXModule):
    """Module `tritape` in the clock domain `sys`.

    - `rx`, `tx`: streams of bytes (`data`) of the host protocol, to and from the accelerator.
    - `requests` (`address`, `length`), `words` (`data`), `write` (`address`, `data`): of its memory, in words of `word_bits`.
    - `restart`: high for a cycle when reads under way must be forgotten. `read_failed`, `write_failed`: from the memory.
    - `running`, `fault`: also in the register `status`.
    """

    def __init__(self, platform: Any) -> None:
        ports = {port["name"]: port for port in json.loads((HERE / f"{NAME}.json").read_text())["ports"]}
        self.word_bits = bits = ports["memory__words__payload"]["bits"]
        self.rx, self.tx = stream.Endpoint([("data", 8)]), stream.Endpoint([("data", 8)])
        self.requests = stream.Endpoint([("address", 32), ("length", 32)])
        self.words = stream.Endpoint([("data", bits)])
        self.write = stream.Endpoint([("address", 32), ("data", bits)])
        self.restart, self.read_failed, self.write_failed = Signal(), Signal(), Signal()
        self.running, self.fault = Signal(), Signal()
        self.status = CSRStatus(
            fields=[
                CSRField("running", size=1, description="a token runs"),
                CSRField("fault", size=1, description="the tape was refused or is broken"),
            ]
        )
        request, write = Signal(64), Signal(32 + bits)
        wires: dict[str, Any] = {"clk": ClockSignal(), "rst": ResetSignal()}
        for name, endpoint, payload in (
            ("rx", self.rx, self.rx.data),
            ("tx", self.tx, self.tx.data),
            ("memory__requests", self.requests, request),
            ("memory__words", self.words, self.words.data),
            ("memory__write", self.write, write),
        ):
            wires |= {f"{name}__payload": payload, f"{name}__valid": endpoint.valid, f"{name}__ready": endpoint.ready}
        for name in ("restart", "running", "fault"):
            wires[name] = getattr(self, name)
        for name in ("read_failed", "write_failed"):
            wires[f"memory__{name}"] = getattr(self, name)
        ways = {"in": "i", "out": "o"}
        self.specials += Instance(
            NAME,
            name=f"{NAME}_core",
            **{f"{ways[port['direction']]}_{name}": wires.get(name, Open()) for name, port in ports.items()},
        )
        self.comb += [
            self.requests.address.eq(request[:32]),
            self.requests.length.eq(request[32:]),
            self.write.address.eq(write[:32]),
            self.write.data.eq(write[32:]),
            self.status.fields.running.eq(self.running),
            self.status.fields.fault.eq(self.fault),
        ]
        platform.add_source(str(HERE / f"{NAME}.v"))

    def add_registers(self) -> None:
        """The byte streams as the registers of a LiteX UART (`rxtx`, `txfull`, `rxempty`, interrupts) under the name `link`,
        which drivers of that UART serve."""
        self.link = UART()
        self.comb += [self.link.source.connect(self.rx), self.tx.connect(self.link.sink)]


class BlockMemory(LiteXModule):
    """A memory of `words` words in block RAM, two cycles a word: the least that a `Tritape` needs.

    `init`: bytes that are there from the start, such as a tape's image; without, the host writes them.
    """

    def __init__(self, core: Tritape, words: int, init: bytes = b"") -> None:
        size = core.word_bits // 8
        first = [int.from_bytes(init[at : at + size], "little") for at in range(0, len(init), size)]
        memory = Memory(core.word_bits, words, init=first or None)
        read, write = memory.get_port(), memory.get_port(write_capable=True)
        self.specials += memory, read, write
        left, fetched = Signal(32), Signal()
        address = Signal(32)
        self.comb += [
            read.adr.eq(address),
            core.requests.ready.eq(left == 0),
            core.words.valid.eq(fetched),
            core.words.data.eq(read.dat_r),
            write.adr.eq(core.write.address),
            write.dat_w.eq(core.write.data),
            write.we.eq(core.write.valid),
            core.write.ready.eq(1),
        ]
        self.sync += If(core.restart, left.eq(0), fetched.eq(0)).Elif(
            left == 0, If(core.requests.valid, address.eq(core.requests.address), left.eq(core.requests.length))
        ).Elif(~fetched, fetched.eq(1)).Elif(
            core.words.ready, fetched.eq(0), address.eq(address + 1), left.eq(left - 1)
        )  # fmt: skip
