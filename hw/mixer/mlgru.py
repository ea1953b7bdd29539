"""The MLGRU pipeline: candidate, forget gate with recurrence, output gate."""

from __future__ import annotations

from itertools import pairwise

from amaranth import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.commands import MLGRUCommand as Command
from tritape.hw.mixer.silu import Activated, SiLU
from tritape.hw.mixer.state_memory import StateMemory
from tritape.hw.norm.gain_memory import GainMemory
from tritape.hw.norm.rescale import Rescale
from tritape.hw.stream.skid import Skid
from tritape.model.arith import SIGMA_ONE


class Mode(enum.Enum, shape=unsigned(2)):  # type: ignore[call-arg]
    """What a command does with its values."""

    CANDIDATE = 0  # I
    FORGET = 1  # F
    OUTPUT = 2  # G


class MLGRU(wiring.Component):
    """The token mixer between its four projections, one hidden element after the other, in three modes:

        I (0):  c[j] = silu(a)
        F (1):  f = sigma(a);  f' = lb[j] + round_shift((32768 - lb[j]) * f, 15)
                h[base + j] = round_shift(f' * h[base + j] + (32768 - f') * c[j], 15)
        G (2):  element j = sat18(round_shift(raw * silu(h[base + j]), shift))

    Parameters
        groups: G, bytes of a word
        max_hidden: most elements of a command, 1..16384
        max_layers: states kept; base + length must not exceed max_layers * max_hidden, at most 2^20

    Ports
        commands: In, {mode u2, length u15, base u20, shift u6, fresh u1}. length 0 does nothing. `shift` counts in G,
            `base` in F and G, `fresh` in F only: the old h reads as 0 (the first token of a sequence)
        parameters: In, {word 8 G bits, first u1}: the lower bound lb, 0..32768, G // 2 unsigned 16-bit elements a
            word, low first; zero until one is loaded. Must not come while a mode F is running
        values: In, s18: pre-activations a (I and F), raw row sums (G)
        elements: Out, s18: only mode G gives any
        saturated: Out, u1: high for one cycle for each element that sat18 changed
        state_access, state_write: In, u1; state_address: In, u20; state_data: In, s18; state_value: Out, s18: while no command
            is under way, the state at an address, `ACCESS_LATENCY` cycles later, or a cycle's store to it

    One element a cycle in each mode. A command is taken when the one before has written, or handed to the final
    multiplication, its last element; so nothing is read before it was written. `LATENCY` cycles from a transfer on
    `values` to `valid` of `elements` in mode G when nothing stalls; only `elements` can make `values` stall, except for
    the start of the lower bound in mode F.

    With `chained` (decision 0006), for one slot of several; plain inputs hold still during a token:
        active: In, u1: else mode F stores nothing. fresh: In, u1, instead of the command's
        chain: In, u1: the old h comes from `before`: In, s18, one element for each of a mode F
        give: In, u1: every new h of mode F also goes to `after`: Out, s18, `RECURRENCE` after the element's entry; `QUEUE`
            of them wait there, and an element enters only when there is room for all under way

    Cost: block RAMs: ceil(max_layers * max_hidden / 1024) for h, ceil(max_hidden / 1024) for c, the activation table
    and the lower bound; five 18 x 18 multipliers; 926 LUT4 (carry chains included) and about 1,250 flip-flops for one
    bank, 1,338 and 1,690 for 24. Tested for lengths 1, 40, 65, 97, several layers, more than one bank, extremes, saturation.
    Raises `TritapeError` for sizes out of range.
    Source: docs/contract.md, "MLGRU pipeline".
    """

    LATENCY = StateMemory.LATENCY + SiLU.LATENCY + Rescale.LATENCY
    ACCESS_LATENCY = StateMemory.LATENCY + 1
    RECURRENCE = 8  # cycles from sigma to the state's write

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
                "commands": In(stream.Signature(Command)),
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
        m = Module()
        m.submodules.silu = silu = SiLU()
        m.submodules.lower_bound = lower_bound = GainMemory(self.groups, self.max_hidden, 1)
        m.submodules.states = states = StateMemory(self.max_hidden * self.max_layers)
        m.submodules.candidates = candidates = StateMemory(self.max_hidden)
        m.submodules.gate = gate = Rescale()

        command = Signal(Command)
        to_take = Signal(15)  # elements of the command whose value has not come yet
        to_finish = Signal(15)  # ... that are not yet written or in the gate
        to_request = Signal()  # the lower bound has not been asked for yet
        forget, output = command.mode == Mode.FORGET, command.mode == Mode.OUTPUT
        finish = Signal()
        stage = Signal(self.RECURRENCE - 1)  # valid bits of the recurrence

        # Front: the value waits for the state's read (needed in G), then both enter the activation.
        moving = Signal()
        taking = Signal()  # to_take is not 0: a register, because every unit in front waits for it
        waiting = Signal(StateMemory.LATENCY)
        value = [Signal(signed(18), name=f"value{stage}") for stage in range(1, StateMemory.LATENCY + 1)]
        m.d.comb += [
            moving.eq(~waiting[-1] | silu.values.ready),
            self.values.ready.eq(moving & taking),
            silu.values.valid.eq(waiting[-1]),
            silu.values.payload.value.eq(Mux(output, states.read_data, value[-1])),
            silu.values.payload.operand.eq(value[-1]),
        ]
        with m.If(moving):
            m.d.sync += [
                waiting.eq(Cat(self.values.valid & taking, waiting[:-1])),
                value[0].eq(self.values.payload),
            ]
            m.d.sync += [later.eq(earlier) for earlier, later in pairwise(value)]

        # Back: to the candidate memory, to the recurrence together with the lower bound, or to the gate. The skid buffer
        # ends the path of `ready`, which enables every bank of the states.
        m.submodules.skid = skid = Skid(Activated)
        wiring.connect(m, silu.activated, skid.source)
        activated, bound = skid.sink, lower_bound.elements
        enters, fresh, store = bound.valid, command.fresh, stage[-1]
        if self.chained:
            enters, fresh, store = Signal(), self.fresh, stage[-1] & self.active
        m.d.comb += [
            gate.operands.valid.eq(activated.valid & output),
            bound.ready.eq(activated.valid & forget),
            activated.ready.eq(~(forget | output) | (forget & enters) | (output & gate.operands.ready)),
            finish.eq(stage[-1] | (activated.valid & activated.ready & ~forget)),
            gate.operands.payload.raw.eq(activated.payload.operand),
            gate.operands.payload.factor.eq(activated.payload.silu),
            gate.operands.payload.shift.eq(command.shift),
        ]
        wiring.connect(m, gate.values, wiring.flipped(self.elements))
        m.d.comb += self.saturated.eq(gate.saturated)

        # Recurrence: a pipeline that never stalls; signals carry the number of their stage.
        sigma1, bound1, rest1 = Signal(16), Signal(16), Signal(16)
        product2, bound2 = Signal(32), Signal(16)
        forget3, forget4, admit4 = Signal(16), Signal(16), Signal(16)
        old5, new5 = Signal(signed(34)), Signal(signed(34))
        sum6 = Signal(signed(35))
        state7 = Signal(signed(18))
        old_state = states.read_data
        if self.chained:
            old_state = self._chain(m, activated.valid & forget, bound, enters, stage[-1] & forget, state7, old_state)
        m.d.sync += [
            stage.eq(Cat(activated.valid & enters & forget, stage[:-1])),
            sigma1.eq(activated.payload.sigma),
            bound1.eq(bound.payload),
            rest1.eq(SIGMA_ONE - bound.payload),
            product2.eq(rest1 * sigma1),
            bound2.eq(bound1),
            forget3.eq((Cat(1, bound2) + (product2 >> 14)) >> 1),  # the 1 and bit 14 of the product round
            forget4.eq(forget3),
            admit4.eq(SIGMA_ONE - forget3),
            old5.eq(Mux(fresh, 0, forget4 * old_state)),
            new5.eq(admit4 * candidates.read_data),
            sum6.eq(old5 + new5),
            state7.eq(((sum6 >> 14) + 1) >> 1),
        ]

        # Addresses: the state is read at the front in G and in stage 1 of the recurrence in F.
        state_read, state_write, stored = Signal(20), Signal(20), Signal()
        candidate = Signal(15)  # written in I, read in F
        m.d.comb += [
            states.enable.eq(moving | forget | self.state_access),
            states.read_address.eq(state_read),
            states.write_address.eq(state_write),
            states.write_data.eq(state7),
            states.write.eq(store | stored),
            self.state_value.eq(states.read_data),
            candidates.enable.eq(1),
            candidates.read_address.eq(candidate),
            candidates.write_address.eq(candidate),
            candidates.write_data.eq(activated.payload.silu),
            candidates.write.eq(activated.valid & (command.mode == Mode.CANDIDATE)),
        ]
        with m.If(candidates.write | stage[0]):
            m.d.sync += candidate.eq(candidate + 1)
        with m.If(stage[0] | (output & self.values.valid & self.values.ready)):
            m.d.sync += state_read.eq(state_read + 1)
        with m.If(stage[-1]):
            m.d.sync += state_write.eq(state_write + 1)

        # The host's access, through the same registers
        m.d.sync += stored.eq(self.state_access & self.state_write)
        with m.If(self.state_access):
            m.d.sync += [
                state_read.eq(self.state_address),
                state_write.eq(self.state_address),
                state7.eq(self.state_data),
            ]

        # Control
        m.d.comb += [
            self.commands.ready.eq(~to_finish.any()),
            lower_bound.words.valid.eq(self.parameters.valid),
            lower_bound.words.payload.word.eq(self.parameters.payload.word),
            lower_bound.words.payload.first.eq(self.parameters.payload.first),
            self.parameters.ready.eq(lower_bound.words.ready),
            lower_bound.reads.valid.eq(to_request),
            lower_bound.reads.payload.length.eq(command.length),
        ]
        with m.If(lower_bound.reads.ready):
            m.d.sync += to_request.eq(0)
        with m.If(self.values.valid & self.values.ready):
            m.d.sync += [to_take.eq(to_take - 1), taking.eq(to_take != 1)]
        with m.If(finish):
            m.d.sync += to_finish.eq(to_finish - 1)
        with m.If(self.commands.valid & self.commands.ready):
            given = self.commands.payload
            m.d.sync += [
                command.eq(given),
                to_take.eq(given.length),
                taking.eq(given.length.any()),
                to_finish.eq(given.length),
                to_request.eq((given.mode == Mode.FORGET) & given.length.any()),
                state_read.eq(given.base),
                state_write.eq(given.base),
                candidate.eq(0),
            ]
        return m

    def _chain(
        self, m: Module, wanted: Value, bound: stream.Interface, enters: Signal, made: Value, state: Signal, own: Value
    ) -> Value:
        """The chain between slots: an element that is `wanted` `enters` the recurrence when its `bound`, the state it starts
        from and room for what it makes are there. Returns: the old state at stage 4, `own` or from `before`."""
        m.submodules.made = queue = SyncFIFO(width=18, depth=self.QUEUE)
        room, starts = Signal(), Signal()
        m.d.sync += room.eq(queue.level < self.QUEUE - self.RECURRENCE)  # a cycle late, so one less
        m.d.comb += [
            starts.eq((self.before.valid | ~self.chain) & (room | ~self.give)),
            enters.eq(bound.valid & starts),
            bound.ready.eq(wanted & starts),
            self.before.ready.eq(wanted & bound.valid & self.chain & (room | ~self.give)),
            queue.w_data.eq(state),
            queue.w_en.eq(made & self.give),
            self.after.payload.eq(queue.r_data),
            self.after.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.after.ready),
        ]
        carried = [self.before.payload, *(Signal(signed(18), name=f"carried{stage}") for stage in range(1, 5))]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(carried)]
        return Mux(self.chain, carried[-1], own)
