"""The MLGRU pipeline: candidate, forget gate with recurrence, output gate."""

from __future__ import annotations

from itertools import pairwise

from amaranth import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.commands import MLGRUCommand, MLGRUMode
from tritape.hw.mixer.silu import Activated, SiLU
from tritape.hw.mixer.state_memory import StateMemory
from tritape.hw.norm.gain_memory import GainMemory
from tritape.hw.norm.rescale import Rescale
from tritape.hw.stream.skid import Skid
from tritape.model.arith import SIGMA_ONE

_RECURRENCE = 8  # cycles from sigma to the state's write


class _Parts:
    """What one elaboration of `MLGRU` is made of; each of its methods reads and drives some of it."""

    def __init__(self, groups: int, max_hidden: int, max_layers: int) -> None:
        self.silu = SiLU()
        self.lower_bound = GainMemory(groups, max_hidden, 1)
        self.states = StateMemory(max_hidden * max_layers)
        self.candidates = StateMemory(max_hidden)
        self.skid = Skid(Activated)
        self.gate = Rescale()

        self.command = Signal(MLGRUCommand)
        self.forget = self.command.mode == MLGRUMode.FORGET
        self.output = self.command.mode == MLGRUMode.OUTPUT
        self.to_take = Signal(15)  # elements of the command whose value has not come yet
        self.taking = Signal()  # to_take is not 0: a register, because every unit in front waits for it
        self.to_finish = Signal(15)  # elements that are not yet written or in the gate
        self.finish = Signal()  # one of them is now
        self.moving = Signal()  # the front moves
        self.enters = Signal()  # the element behind SiLU can enter the recurrence
        self.stage = Signal(_RECURRENCE - 1)  # valid bits of the recurrence
        self.state = Signal(signed(18))  # what the recurrence or the host writes
        self.state_read, self.state_write = Signal(20), Signal(20)
        self.candidate = Signal(15)  # address: written in I, read in F


class MLGRU(wiring.Component):
    """Mixes tokens: the one unit with a memory of earlier tokens, between its four projections in every layer. A lane has
    one. It works on one hidden element after the other, in three modes (`MLGRUMode`):

        CANDIDATE (I):  c[j] = silu(a)
        FORGET (F):     f = sigma(a);  f' = lb[j] + round_shift((32768 - lb[j]) * f, 15)
                        h[base + j] = round_shift(f' * h[base + j] + (32768 - f') * c[j], 15)
        OUTPUT (G):     element j = sat18(round_shift(raw * silu(h[base + j]), shift))

    Parameters
        groups: G, bytes of a word
        max_hidden: most elements of a command, 1..16384
        max_layers: states kept; base + length must not exceed max_layers * max_hidden, at most 2^20

    Ports
        commands: In, `MLGRUCommand`. length 0 does nothing. `shift` counts in G, `base` in F and G, `fresh` in F only: the
            old h reads as 0 (the first token of a sequence)
        parameters: In, {word 8 G bits, first u1}: the lower bound lb, 0..32768, G // 2 unsigned 16-bit elements a
            word, low first; zero until one is loaded. Parameters must not come while a mode F is running
        values: In, s18: pre-activations a (I and F), raw row sums (G)
        elements: Out, s18: only mode G gives any
        saturated: Out, u1: high for one cycle for each element that sat18 changed
        state_access, state_write: In, u1; state_address: In, u20; state_data: In, s18; state_value: Out, s18: the state at
            an address, `ACCESS_LATENCY` cycles later, or a cycle's store to it. The host must not have access while a
            command is under way

    With `chained` (decision 0006) it serves one slot of several; plain inputs hold still during a token:
        active: In, u1: 0 keeps mode F from storing. fresh: In, u1, instead of the command's
        chain: In, u1: the old h comes from `before`: In, s18, one element for each of a mode F
        give: In, u1: every new h of mode F also goes to `after`: Out, s18, `RECURRENCE` after the element's entry; `QUEUE`
            of them wait there, and an element enters only when there is room for all under way

    Rate: one element a cycle in each mode. A command is taken when the one before has written, or handed to the final
    multiplication, its last element; so nothing is read before it was written. Only `elements` can make `values` stall,
    except for the start of the lower bound in mode F.
    Latency: `LATENCY` cycles from a transfer on `values` to `valid` of `elements` in mode G when nothing stalls.
    Cost: block RAMs: ceil(max_layers * max_hidden / 1024) for h, ceil(max_hidden / 1024) for c, the sigma table and the
    lower bound; five 18 x 18 multipliers; 926 LUT4 (carry chains included) and about 1,250 flip-flops for one bank, 1,338
    and 1,690 for 24.
    Tested for lengths 1, 40, 65, 97, several layers, more than one bank, extremes, saturation (tests/test_hw_mlgru.py).
    Raises `TritapeError` for sizes out of range. Source: docs/contract.md, "MLGRU pipeline".
    """

    LATENCY = StateMemory.LATENCY + SiLU.LATENCY + Rescale.LATENCY
    ACCESS_LATENCY = StateMemory.LATENCY + 1
    RECURRENCE = _RECURRENCE

    QUEUE = 16

    def __init__(self, groups: int, max_hidden: int, max_layers: int, *, chained: bool = False) -> None:
        if not 1 <= max_hidden <= 16384:
            raise TritapeError(f"max_hidden must be 1..16384, not {max_hidden!r}")
        if not 1 <= max_layers <= (1 << 20) // max_hidden:
            raise TritapeError(
                f"max_layers must be 1..{(1 << 20) // max_hidden} for max_hidden {max_hidden}, not {max_layers!r}; "
                "a state address has 20 bits"
            )
        self.groups = groups
        self.max_hidden = max_hidden
        self.max_layers = max_layers
        self.chained = chained
        state = stream.Signature(signed(18))
        chain = {name: In(1) for name in ("active", "fresh", "chain", "give")}
        chain |= {"before": In(state), "after": Out(state)}
        word = data.StructLayout({"word": unsigned(8 * groups), "first": unsigned(1)})
        super().__init__(
            {
                "commands": In(stream.Signature(MLGRUCommand)),
                "parameters": In(stream.Signature(word)),
                "values": In(stream.Signature(signed(18))),
                "elements": Out(stream.Signature(signed(18))),
                "saturated": Out(1),
                "state_access": In(1),
                "state_address": In(20),
                "state_write": In(1),
                "state_data": In(signed(18)),
                "state_value": Out(signed(18)),
                **(chain if chained else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, parts = Module(), _Parts(self.groups, self.max_hidden, self.max_layers)
        for name in ("silu", "lower_bound", "states", "candidates", "skid", "gate"):
            m.submodules[name] = getattr(parts, name)
        wiring.connect(m, parts.silu.activated, parts.skid.source)
        wiring.connect(m, parts.gate.values, wiring.flipped(self.elements))
        m.d.comb += self.saturated.eq(parts.gate.saturated)
        self._front(m, parts)
        self._back(m, parts)
        self._recurrence(m, parts, self._chain(m, parts) if self.chained else parts.states.read_data)
        self._addresses(m, parts)
        self._host_access(m, platform, parts)
        self._lower_bound(m, platform, parts)
        self._commands(m, parts)
        return m

    def _front(self, m: Module, parts: _Parts) -> None:
        """The value waits for the state's read (which G needs), then both enter SiLU."""
        silu, moving = parts.silu, parts.moving
        waiting = Signal(StateMemory.LATENCY)
        value = [Signal(signed(18), name=f"value{stage}") for stage in range(1, StateMemory.LATENCY + 1)]
        m.d.comb += [
            moving.eq(~waiting[-1] | silu.values.ready),
            self.values.ready.eq(moving & parts.taking),
            silu.values.valid.eq(waiting[-1]),
            silu.values.payload.value.eq(Mux(parts.output, parts.states.read_data, value[-1])),
            silu.values.payload.operand.eq(value[-1]),
        ]
        with m.If(moving):
            m.d.sync += [
                waiting.eq(Cat(self.values.valid & parts.taking, waiting[:-1])),
                value[0].eq(self.values.payload),
            ]
            m.d.sync += [later.eq(earlier) for earlier, later in pairwise(value)]

    def _back(self, m: Module, parts: _Parts) -> None:
        """From SiLU to the candidate memory, to the recurrence together with the lower bound, or to the gate.

        The skid buffer ends the path of `ready`, which enables every bank of the states.
        """
        activated, operands, forget, output = parts.skid.sink, parts.gate.operands, parts.forget, parts.output
        m.d.comb += [
            operands.valid.eq(activated.valid & output),
            activated.ready.eq(~(forget | output) | (forget & parts.enters) | (output & operands.ready)),
            parts.finish.eq(parts.stage[-1] | (activated.valid & activated.ready & ~forget)),
            operands.payload.raw.eq(activated.payload.operand),
            operands.payload.factor.eq(activated.payload.silu),
            operands.payload.shift.eq(parts.command.shift),
        ]
        if not self.chained:
            bound = parts.lower_bound.elements
            m.d.comb += [bound.ready.eq(activated.valid & forget), parts.enters.eq(bound.valid)]

    def _recurrence(self, m: Module, parts: _Parts, old_state: Value) -> None:
        """A pipeline that never stalls; signals carry the number of their stage."""
        activated, bound = parts.skid.sink, parts.lower_bound.elements
        fresh = self.fresh if self.chained else parts.command.fresh
        sigma1, bound1, rest1 = Signal(16), Signal(16), Signal(16)
        product2, bound2 = Signal(32), Signal(16)
        forget3, forget4, admit4 = Signal(16), Signal(16), Signal(16)
        old5, new5 = Signal(signed(34)), Signal(signed(34))
        sum6 = Signal(signed(35))
        m.d.sync += [
            parts.stage.eq(Cat(activated.valid & parts.enters & parts.forget, parts.stage[:-1])),
            sigma1.eq(activated.payload.sigma),
            bound1.eq(bound.payload),
            rest1.eq(SIGMA_ONE - bound.payload),
            product2.eq(rest1 * sigma1),
            bound2.eq(bound1),
            forget3.eq((Cat(1, bound2) + (product2 >> 14)) >> 1),  # the 1 and bit 14 of the product round
            forget4.eq(forget3),
            admit4.eq(SIGMA_ONE - forget3),
            old5.eq(Mux(fresh, 0, forget4 * old_state)),
            new5.eq(admit4 * parts.candidates.read_data),
            sum6.eq(old5 + new5),
            parts.state.eq(((sum6 >> 14) + 1) >> 1),
        ]

    def _addresses(self, m: Module, parts: _Parts) -> None:
        """The state is read at the front in G and in stage 1 of the recurrence in F."""
        activated, candidates, stage = parts.skid.sink, parts.candidates, parts.stage
        m.d.comb += [
            parts.states.read_address.eq(parts.state_read),
            parts.states.write_address.eq(parts.state_write),
            parts.states.write_data.eq(parts.state),
            candidates.enable.eq(1),
            candidates.read_address.eq(parts.candidate),
            candidates.write_address.eq(parts.candidate),
            candidates.write_data.eq(activated.payload.silu),
            candidates.write.eq(activated.valid & (parts.command.mode == MLGRUMode.CANDIDATE)),
        ]
        with m.If(candidates.write | stage[0]):
            m.d.sync += parts.candidate.eq(parts.candidate + 1)
        with m.If(stage[0] | (parts.output & self.values.valid & self.values.ready)):
            m.d.sync += parts.state_read.eq(parts.state_read + 1)
        with m.If(stage[-1]):
            m.d.sync += parts.state_write.eq(parts.state_write + 1)

    def _host_access(self, m: Module, platform: object, parts: _Parts) -> None:
        """The host's access to the states, through the registers of the recurrence; when the states are read and written."""
        stored = Signal()
        store = parts.stage[-1] & self.active if self.chained else parts.stage[-1]
        m.d.comb += [
            parts.states.enable.eq(parts.moving | parts.forget | self.state_access),
            parts.states.write.eq(store | stored),
            self.state_value.eq(parts.states.read_data),
        ]
        m.d.sync += stored.eq(self.state_access & self.state_write)
        with m.If(self.state_access):
            check(m, platform, ~parts.to_finish.any(), "the host must not have access while a command is under way")
            m.d.sync += [
                parts.state_read.eq(self.state_address),
                parts.state_write.eq(self.state_address),
                parts.state.eq(self.state_data),
            ]

    def _lower_bound(self, m: Module, platform: object, parts: _Parts) -> None:
        """Words of the lower bound come between modes F; a mode F asks for its elements once."""
        words, reads = parts.lower_bound.words, parts.lower_bound.reads
        given = self.commands.payload
        to_request = Signal()  # it has not been asked for yet
        m.d.comb += [
            words.valid.eq(self.parameters.valid),
            words.payload.word.eq(self.parameters.payload.word),
            words.payload.first.eq(self.parameters.payload.first),
            self.parameters.ready.eq(words.ready),
            reads.valid.eq(to_request),
            reads.payload.length.eq(parts.command.length),
        ]
        with m.If(self.parameters.valid & parts.to_finish.any()):
            check(m, platform, ~parts.forget, "parameters must not come while a mode F is running")
        with m.If(reads.ready):
            m.d.sync += to_request.eq(0)
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += to_request.eq((given.mode == MLGRUMode.FORGET) & given.length.any())

    def _commands(self, m: Module, parts: _Parts) -> None:
        """A command is taken when the one before has finished; counts of its elements."""
        given = self.commands.payload
        m.d.comb += self.commands.ready.eq(~parts.to_finish.any())
        with m.If(self.values.valid & self.values.ready):
            m.d.sync += [parts.to_take.eq(parts.to_take - 1), parts.taking.eq(parts.to_take != 1)]
        with m.If(parts.finish):
            m.d.sync += parts.to_finish.eq(parts.to_finish - 1)
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [
                parts.command.eq(given),
                parts.to_take.eq(given.length),
                parts.taking.eq(given.length.any()),
                parts.to_finish.eq(given.length),
                parts.state_read.eq(given.base),
                parts.state_write.eq(given.base),
                parts.candidate.eq(0),
            ]

    def _chain(self, m: Module, parts: _Parts) -> Value:
        """The chain between slots. An element of F enters the recurrence when its bound, the state it starts from and room
        for what it makes are there. Returns the old state at stage 4: this slot's own, or the one from `before`."""
        m.submodules.made = queue = SyncFIFO(width=18, depth=self.QUEUE)
        bound, wanted = parts.lower_bound.elements, parts.skid.sink.valid & parts.forget
        room, starts = Signal(), Signal()
        m.d.sync += room.eq(queue.level < self.QUEUE - self.RECURRENCE)  # a cycle late, so one less
        m.d.comb += [
            starts.eq((self.before.valid | ~self.chain) & (room | ~self.give)),
            parts.enters.eq(bound.valid & starts),
            bound.ready.eq(wanted & starts),
            self.before.ready.eq(wanted & bound.valid & self.chain & (room | ~self.give)),
            queue.w_data.eq(parts.state),
            queue.w_en.eq(parts.stage[-1] & parts.forget & self.give),
        ]
        wiring.connect(m, queue.r_stream, wiring.flipped(self.after))
        carried = [self.before.payload, *(Signal(signed(18), name=f"carried{stage}") for stage in range(1, 5))]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(carried)]
        return Mux(self.chain, carried[-1], parts.states.read_data)
