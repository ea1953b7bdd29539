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


def chain_ports() -> dict[str, wiring.Member]:
    """Ports of one lane of a slot, besides those of a lone vector path: see `MLGRU`."""
    state = stream.Signature(signed(18))
    return {**{name: In(1) for name in SLOT_INPUTS}, "before": In(state), "after": Out(state)}


def _chains(engines: int) -> dict[str, wiring.Member]:
    ports = chain_ports()
    return {name: port if name in SLOT_INPUTS else port.array(engines) for name, port in ports.items()}


class VectorSignature(wiring.Signature):
    """Everything between the sequencer, the engine and the host's token (docs/contract.md, "Streams between units").

    Streams in: NAME_commands of the sequencer for residual, norm, dequantiser, mlgru, mixer, head and embedding;
    embedding_words (8 E G bits); parameters; rows (E times s18) of the engine. Streams out: E of activations, tokens (u16).
    Streams for the host: logits, Out, s18: while logits_enable, every logit, and the head waits until it is taken.
    The recurrent state for the host, while no token runs: while state_access is high state_value is what stands at
    state_address
    (layer * hidden + j; with E lanes, of a lane, and the lane in the low bits), 5 cycles later at most;
    state_write with it stores state_data.
    Plain: inv_temperature, seed, reseed (`Sampler`); norm_done, a pulse for each PREP that is finished; for simulation the
    `TAPS`, each with
    _valid, E elements but for the logit: dequantised (or raw) rows, elements of x and v as they are written, logits;
    saturated_NAME: how many elements a saturation changed in this cycle.
    With several slots, for one of them: active, fresh, chain, give as in `MLGRU`, and for each lane before and after.
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
                "state_access": In(1),
                "state_address": In(20),
                "state_write": In(1),
                "state_data": In(signed(18)),
                "state_value": Out(signed(18)),
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
