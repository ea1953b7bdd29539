"""Whole tokens through AXI4 ports with a latency: the tape written over the link, two boots, every element compared; errors."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from link_script import Script
from test_hw_accelerator import Probed, extend, odd

from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.counters import MEMORY_ERRORS
from tritape.hw.link.commands import Command, ErrorCode
from tritape.hw.memory.attach import add_memory
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.probe import ProbeSignature
from tritape.model.tape.assembler import image
from tritape.sim.bench import check_streams
from tritape.sim.memory.axi_model import AXIRAM

pytestmark = pytest.mark.slow


class AXIAccelerator(wiring.Component):
    """An accelerator with its tape in memories behind AXI4 ports."""

    def __init__(self, config: Config, ports: int, port_bits: int, lines: int, latency: int) -> None:
        self._accelerator = Accelerator(config, memory_errors=True)
        self._memory = AXIMemory(config.groups, ports, port_bits)
        self._rams = [AXIRAM(port_bits, lines, latency, jitter=15, seed=seed) for seed in range(1, ports + 1)]
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "probe": Out(ProbeSignature()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = accelerator = self._accelerator
        add_memory(m, self._memory, accelerator.memory, accelerator.restart)
        wiring.connect(m, wiring.flipped(self.rx), accelerator.rx)
        wiring.connect(m, accelerator.tx, wiring.flipped(self.tx))
        wiring.connect(m, accelerator.probe, wiring.flipped(self.probe))
        m.d.comb += accelerator.memory_errors.eq(self._memory.errors)
        for number, (ram, axi) in enumerate(zip(self._rams, self._memory.axi)):
            m.submodules[f"ram{number}"] = ram
            wiring.connect(m, axi, ram.axi)
        return m


@pytest.mark.parametrize(
    ("groups", "ports", "port_bits"),
    [pytest.param(*shape, marks=pytest.mark.long) for shape in ((5, 2, 32), (16, 1, 128))],
)
def test_tape_loaded_over_the_link(groups: int, ports: int, port_bits: int) -> None:
    model = odd()
    data = image(model, groups, 1024)
    lines = -(-len(data) // (port_bits // 8 * ports))
    config = Config(groups=groups, max_hidden=64, max_intermediate=128, max_layers=1, max_vocab=128)
    link = Script()
    link.write(0, data, groups)
    probes, _ = extend(link, model, [3, 50], 1, 0)
    extend(link, model, [3, 50], 1, 0, position=3)
    link.send(Command.COUNTERS, MEMORY_ERRORS, 1, back=bytes(4))
    # A word behind the end of the memories goes to as many ports as it covers, and each answers with an error,
    # which the reply tells.
    link.flags = 0
    behind = lines * port_bits * ports
    link.send(Command.WRITE, behind, 1, bytes(groups), left=behind + 1, status=ErrorCode.MEMORY)
    link.send(Command.COUNTERS, MEMORY_ERRORS, 1, back=bytes([min(ports, -(-groups * 8 // port_bits)), 0, 0, 0]))
    check_streams(
        Probed(AXIAccelerator(config, ports, port_bits, lines, latency=40), groups),
        inputs={"rx": list(link.rx)},
        expected={"tx": list(link.tx), **{name: values * 2 for name, values in probes.items()}},
        after={"rx": link.gates},
        input_stall=0.0,
        output_stall=0.1,
    )
