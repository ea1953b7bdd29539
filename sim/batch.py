"""Several tokens a pass in simulation: steps of `Accelerator`, each slot checked against the integer golden model."""

from __future__ import annotations

from collections.abc import Sequence

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.host.device import Device
from tritape.host.slots import Entry, Step, prompt_steps
from tritape.hw.probe import PROBES
from tritape.model import arith
from tritape.model.golden import IntegerModel, Trace
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.sim.generate import RETRY_S, Simulation


class BatchRunner:
    """Sequences on the slots of a simulated accelerator, through its host link: every element of every slot that has a token is
    compared with the golden model. What `Generator` is for one slot.

    Attributes: `device`, which runs nothing else; `difference`, the first that was found, with its slot, or None;
    `states[slot]` of the golden model, which the slot's memory must hold.
    Raises `TritapeError` for one slot, a tape that is refused, and what `check_chains` refuses.
    """

    def __init__(self, simulation: Simulation, model: QuantisedModel) -> None:
        config = simulation.config
        if config.batch < 2:
            raise TritapeError(f"batch must be at least 2 here, not {config.batch!r}; one slot has a Generator")
        self._simulation, self._engines = simulation, config.engines
        self._golden = IntegerModel(model)
        self.states = [self._golden.state.copy() for _ in range(config.batch)]
        self._samplers = [(0, arith.XORSHIFT_DEFAULT)] * config.batch
        self._chosen = [0] * config.batch
        self.difference: str | None = None
        simulation.set_memory(
            image(model, config.groups, config.max_rows, config.engines, config.weight_code), config.word_bytes
        )
        self.device = Device(simulation, retry_s=RETRY_S)
        self.device.boot()
        assert self.device.slots is not None
        self._slots = self.device.slots

    def sampler(self, slot: int, inv_temperature: int, seed: int) -> None:
        """Set a slot's sampler."""
        self._samplers[slot] = inv_temperature, seed or arith.XORSHIFT_DEFAULT
        self._slots.sampler(slot, inv_temperature, seed)

    def step(self, entries: Step) -> list[int]:
        """Run a step, and check it: what each slot chose, no meaning where it has no entry."""
        device = self.device
        self._simulation.clear_probes()
        self._slots.load(device.position, [entries])
        device.position += 1
        rows: list[tuple[int, ...]] = []
        while not rows:
            reply, rows = self._slots.poll(device.position, device.position + 1, [], 1)
            if not rows and not reply.running:
                raise TritapeError(protocol.STOPPED)
        before, self._chosen = self._chosen, list(rows[0])
        for slot in _order(entries):
            entry = entries[slot]
            assert entry is not None
            self._compare(slot, entry, before[slot] if entry.token is None else entry.token)
        return list(self._chosen)

    def prefill(self, slot: int, prompt: Sequence[int], *, fresh: bool) -> tuple[int, int]:
        """Run a prompt on all slots, the state beginning on `slot`: the slot that has it then, and the token it chose."""
        steps, end = prompt_steps(prompt, slot, self._slots.count, fresh=fresh)
        chosen = [self.step(entries) for entries in steps]
        return end, chosen[-1][end]

    def _compare(self, slot: int, entry: Entry, token: int) -> None:
        """Compare what a slot did with its token in this step with the golden model."""
        golden, trace = self._golden, Trace()
        golden.state = self.states[slot - 1 if entry.chain else slot].copy()
        if entry.fresh:
            golden.state[:] = 0
        logits = golden.step(token, trace)
        self.states[slot] = golden.state
        inv_temperature, generator = self._samplers[slot]
        expected, generator = arith.choose(logits, inv_temperature, generator)
        self._samplers[slot] = inv_temperature, generator
        seen = {name: self._simulation.probe(name, slot) for name in PROBES}
        difference = trace.first_difference(seen, self._engines)
        if difference is None and self._chosen[slot] != expected:
            difference = f"token must be {expected}, not {self._chosen[slot]}"
        if difference is not None:
            self.difference = self.difference or f"slot {slot}: {difference}"


def _order(entries: Step) -> list[int]:
    """Active slots, each behind the one that it starts from."""
    count = len(entries)
    ordered = []
    for start, first in enumerate(entries):
        if first is None or first.chain:
            continue
        ordered.append(start)
        slot = (start + 1) % count
        while (entry := entries[slot]) is not None and entry.chain:
            ordered.append(slot)
            slot = (slot + 1) % count
    return ordered
