"""The ports that both vector paths have: the pipelined units and the serial one."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw import commands
from tritape.hw.commands import Activation
from tritape.hw.config import Config

TAPS = ("value", "vector", "logit")
SATURATED = ("dequantiser", "mlgru", "mixer", "residual")

SLOT_INPUTS = ("active", "fresh", "chain", "give")
STATE_PORTS = ("state_access", "state_address", "state_write", "state_data", "state_value")


def state_ports() -> dict[str, wiring.Member]:
    """Ports for the host's access to a recurrent state: see `VectorSignature`."""
    shapes = {"state_access": 1, "state_address": 20, "state_write": 1, "state_data": signed(18)}
    return {**{name: In(shape) for name, shape in shapes.items()}, "state_value": Out(signed(18))}


def chain_ports() -> dict[str, wiring.Member]:
    """Ports of one lane of a slot, besides those of a lone vector path: see `MLGRU`."""
    state = stream.Signature(signed(18))
    return {**{name: In(1) for name in SLOT_INPUTS}, "before": In(state), "after": Out(state)}


def _chains(engines: int) -> dict[str, wiring.Member]:
    ports = chain_ports()
    return {name: port if name in SLOT_INPUTS else port.array(engines) for name, port in ports.items()}


class VectorSignature(wiring.Signature):
    """What stands between the sequencer, the engine and the host's token, whichever vector path does the work.

    An accelerator has one `PipelinedVector` or `SerialVector` with these ports, a batch of several slots one for each slot
    (docs/contract.md, "Streams between units").

    Streams from the sequencer (In)
        NAME_commands for residual, norm, dequantiser, mlgru, mixer, head, embedding: layouts of `tritape.hw.commands`.
        embedding_words: 8 E G bits. parameters: `parameter_word`.
    Streams from and to the engine
        rows: In, E times s18. activations: Out, E streams of `Activation`.
    Streams to the host (Out)
        tokens: u16.
        logits: s18: every logit while `logits_enable`, In, u1, is high; the head waits until it is taken.

    The recurrent state for the host, only while no token runs
        state_access: In, u1: while it is high, `state_value` shows what stands at `state_address`, 5 cycles later at most.
        state_address: In, u20: layer * hidden + j; with E lanes, that of a lane, and the lane in the low bits.
        state_value: Out, s18.
        state_write: In, u1; state_data: In, s18: store it there.

    Plain
        inv_temperature: In, u17; seed: In, u32; reseed: In, u1: as in `Sampler`.
        norm_done: Out, u1: a pulse for each PREP that is finished.
        saturated_NAME: Out, for each of `SATURATED`: how many elements a saturation changed in this cycle.
        active, fresh, chain, give: In, before, after for each lane: only with several slots, for one of them, as in `MLGRU`.

    Taps for simulation (Out), each NAME with NAME_valid
        value: E elements: dequantised (or raw) rows. vector: E elements of x and v as they are written. logit: one logit.
    """

    def __init__(self, config: Config) -> None:
        word = 8 * config.word_bytes
        inputs = {
            "residual_commands": commands.ResidualCommand,
            "norm_commands": commands.NormCommand,
            "dequantiser_commands": commands.DequantiserCommand,
            "mlgru_commands": commands.MLGRUCommand,
            "mixer_commands": commands.MixerCommand,
            "head_commands": commands.HeadCommand,
            "embedding_commands": commands.EmbeddingCommand,
            "embedding_words": word,
            "parameters": commands.parameter_word(config.word_bytes),
            "rows": data.ArrayLayout(signed(18), config.engines),
        }
        super().__init__(
            {
                **{name: In(stream.Signature(shape)) for name, shape in inputs.items()},
                "activations": Out(stream.Signature(Activation)).array(config.engines),
                "tokens": Out(stream.Signature(16)),
                "logits_enable": In(1),
                "logits": Out(stream.Signature(signed(18))),
                **state_ports(),
                "inv_temperature": In(17),
                "seed": In(32),
                "reseed": In(1),
                "norm_done": Out(1),
                **{name: Out(18 * (1 if name == "logit" else config.engines)) for name in TAPS},
                **{f"{name}_valid": Out(1) for name in TAPS},
                **{f"saturated_{name}": Out(range(config.engines + 1)) for name in SATURATED},
                **(_chains(config.engines) if config.batch > 1 else {}),
            }
        )
