"""The engine of `sparse4`: five bits are sign and address of a sum of three of four activations, in LUT RAM."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from tritape.hw.config import Config
from tritape.hw.engine.engine import Engine, Parts
from tritape.hw.engine.sparse_activations import SparseActivations, fillers
from tritape.hw.engine.sparse_filler import ADDRESS_BITS, ENTRY_BITS, SparseFiller


class SparseParts(Parts):
    """With one memory of activations."""

    filler: SparseFiller

    def __init__(self, config: Config) -> None:
        super().__init__(config, SparseFiller(config))
        self.memory = SparseActivations(config)


class SparseEngine(Engine):
    """Multiplies matrices in `sparse4` with vectors of activations, 32 / 5 E G multiply-accumulates a cycle, a quarter of them by
    the zero of each four. Ports: `Engine`.

    The G bytes of a row hold 8 G / 5 codes, so G is a multiple of 5: no code lies in two words, and no gearbox is needed. A tile
    is 32 G / 5 consecutive columns; the elements of a four come from 4 / E slices of the E lanes, so E is 1, 2 or 4.

    Rate: one word a cycle, across tiles and blocks, while the slices of a tile are at least `sparse_fill_cycles(config)`.
    Latency: `pipeline_cycles` cycles from a word of the last tile to its slice's `valid`.
    Cost: docs/tape.md, "Engines". Tested: G = 5, 10, 15, 20, 25 and E = 1, 2, 4 (tests/test_hw_sparse_engine.py).
    """

    def _parts(self, config: Config) -> SparseParts:
        return SparseParts(config)

    def _submodules(self, m: Module, parts: Parts) -> None:
        assert isinstance(parts, SparseParts)
        m.submodules.activation_memory = parts.memory
        for index, (tree, accumulator) in enumerate(zip(parts.trees, parts.accumulators)):
            m.submodules[f"tree_{index}"], m.submodules[f"accumulator_{index}"] = tree, accumulator

    def _activations(self, m: Module, parts: Parts) -> None:
        assert isinstance(parts, SparseParts)
        filler, memory = parts.filler, parts.memory
        for outside, inside in zip(self.activations, memory.activations):
            wiring.connect(m, wiring.flipped(outside), inside)
        m.d.comb += [
            *(getattr(memory, name).eq(getattr(filler, name)) for name in ("four", "half", "batch", "release")),
            *(value.eq(source) for value, source in zip(filler.values, memory.values)),
            filler.available.eq(memory.available),
        ]

    def _tables(self, m: Module, parts: Parts) -> None:
        assert isinstance(parts, SparseParts)
        config, filler, advance, code = self.config, parts.filler, parts.advance, self.config.weight_code
        style, count = "block" if config.block_tables else "distributed", fillers(self.config)
        for engine, tree in enumerate(parts.trees):
            word = parts.word.word_select(engine, 8 * config.groups)
            signs = Cat(word.word_select(index, code.bits)[-1] for index in range(config.tables))
            m.d.comb += tree.enable.eq(advance)
            if config.block_tables:
                negate = Signal(config.tables, name=f"negate_{engine}")
                with m.If(advance):
                    m.d.sync += negate.eq(signs)
                signs = negate
            m.d.comb += tree.negate.eq(signs)
            for index in range(config.tables):
                table = Memory(
                    shape=signed(ENTRY_BITS),
                    depth=2 << ADDRESS_BITS,
                    init=[],
                    attrs={"no_rw_check": 1, "ram_style": style},
                )
                m.submodules[f"table_{engine}_{index}"] = table
                read, write = table.read_port(), table.write_port()
                turn, source = divmod(index, count)
                m.d.comb += [
                    read.addr.eq(Cat(word.word_select(index, code.bits)[:ADDRESS_BITS], parts.slice_bank)),
                    read.en.eq(advance),
                    write.addr.eq(filler.write_address[source]),
                    write.data.eq(filler.entries[source]),
                    write.en.eq(filler.write_enable[source][turn]),
                ]
                if config.block_tables:  # its own register is slow
                    with m.If(advance):
                        m.d.sync += tree.values[index].eq(read.data)
                else:
                    m.d.comb += tree.values[index].eq(read.data)
