"""Poisoned block RAM: a read that meets a write is seen, nothing else changes, and the accelerator does not care."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.model.checkpoint import load_checkpoint
from tritape.model.data import embedded_models
from tritape.model.formats import quantise_model
from tritape.sim.fast.build import build_model
from tritape.sim.fast.poison import poisoned
from tritape.sim.generate import Generator, Simulation, generate

MAIN = """
#include "Vmodel.h"
#include <cstdio>
int main() {
    for (int distance = 0; distance < 2; ++distance) {
        Vmodel model;
        model.distance = distance;
        for (int cycle = 0; cycle < 20; ++cycle) {
            model.clk = 0; model.eval();
            model.clk = 1; model.eval();
            printf("%d ", int(model.data));
        }
        printf("\\n");
    }
}
"""


class Collides(wiring.Component):
    """Writes 5 n to word n mod 4 in cycle n and reads word (n - distance) mod 4 in the same cycle."""

    def __init__(self, granularity: int | None = None) -> None:
        self._granularity = granularity
        super().__init__({"distance": In(2), "data": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=4, init=[], attrs={"no_rw_check": 1})
        write, read = memory.write_port(granularity=self._granularity), memory.read_port()
        cycle = Signal(8)
        m.d.sync += cycle.eq(cycle + 1)
        m.d.comb += [
            write.addr.eq(cycle),
            write.data.eq(cycle * 5),
            write.en.eq(-1 if self._granularity is None else cycle[1:]),
            read.addr.eq(cycle - self.distance),
            self.data.eq(read.data),
        ]
        return m


def outputs(text: str, folder: Path) -> list[list[int]]:
    """What `Collides` shows in 20 cycles at distance 0 and at distance 1."""
    main = folder / "main.cpp"
    main.write_text(MAIN)
    ran = subprocess.run([build_model(text, "top", main)], capture_output=True, text=True, check=True)
    return [[int(word) for word in line.split()] for line in ran.stdout.splitlines()]


def test_only_a_read_that_meets_a_write_is_garbage(tmp_path: Path) -> None:
    text = verilog_text(Collides(), "top")
    (met, apart), (met_poisoned, apart_poisoned) = outputs(text, tmp_path), outputs(poisoned(text), tmp_path)
    assert met[-3:] == [5 * (n - 4) for n in (17, 18, 19)]
    assert apart[-3:] == [5 * (n - 1) for n in (17, 18, 19)]
    assert met_poisoned == [word ^ 0xFF for word in met]
    assert apart_poisoned == apart


def test_a_memory_of_an_unknown_form_is_refused() -> None:
    with pytest.raises(
        TritapeError,
        match=r"^memory memory must have clocked reads and writes of whole words, not 0 of 2 writes and 1 reads of that kind; ",
    ):
        poisoned(verilog_text(Collides(granularity=4), "top"))


def test_text_without_such_memory_stays() -> None:
    text = verilog_text(Collides(), "top").replace("no_rw_check", "other")
    assert poisoned(text) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        Config(groups=4, serial=True),
        pytest.param(Config(groups=4, engines=2), marks=pytest.mark.long),
        pytest.param(Config(groups=4, batch=2), marks=pytest.mark.long),
    ],
)
def test_every_memory_of_the_accelerators_is_poisoned(config: Config) -> None:
    text = verilog_text(Accelerator(config), "top")
    marked = text.count("no_rw_check")
    assert marked > 8
    changed = [line for line, old in zip(poisoned(text).splitlines(), text.splitlines(), strict=True) if line != old]
    assert len(changed) >= marked


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        Config(groups=8, max_hidden=128, max_intermediate=320, max_layers=4, max_vocab=512, max_rows=512),
        pytest.param(Config(), marks=pytest.mark.long),
    ],
    ids=["small", "default"],
)
def test_the_accelerator_does_not_care(config: Config) -> None:
    model = quantise_model(load_checkpoint(embedded_models()["tiny" if config.groups == 8 else "small"]))
    with Simulation(config, poison=True) as simulation:
        generator = Generator(simulation, model, config.groups, max_rows=config.max_rows, temperature=0.7, seed=5)
        result = generate(generator, [40, 500, 3], 12, lambda token: None)
    assert result["bit_exact"], result["difference"]
    assert result["crc_errors"] == 0
