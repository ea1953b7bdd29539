"""`tritape random-checkpoint`, `pack`, `inspect`, `golden`, `check`, `perplexity`: everything about a model that needs no
hardware but `check --rtl`."""

from __future__ import annotations

import math
import resource
import sys
import time
import zipfile
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tritape.base.errors import TritapeError
from tritape.base.files import read_text
from tritape.base.simulators import require_compiler
from tritape.cli import app
from tritape.cli.common import console, left_out, model_path, out, output_file, progress, report
from tritape.hw.config import Config
from tritape.model.checkpoint import Checkpoint, load_checkpoint
from tritape.model.codes import CODES, SPARSE4, TERNARY5, WeightCode, code_named
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path
from tritape.model.formats import CALIBRATION_TOKENS, is_streamed, quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quality import LIMIT, PROBE_TOKENS, Quality, readings
from tritape.model.quantised import QuantisedModel
from tritape.model.random_checkpoint import DTYPES, write_random_checkpoint
from tritape.model.reference import FloatModel, check_ids
from tritape.model.reference import perplexity as measure_perplexity
from tritape.model.tape.assembler import DEFAULT_ROWS, is_sparse4
from tritape.model.tape.assembler import pack as pack_tape
from tritape.model.tape.container import read_tape
from tritape.model.tape.layout import Geometry, ideal_cycles, ternary_weights
from tritape.model.tape.reader import read_header, read_model, sections
from tritape.model.tokenizer import load_tokenizer, tape_text
from tritape.rtl_gen.estimate import PUBLISHED

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the result as JSON to this file.", callback=output_file)
]
FLOAT_TOLERANCE, INTEGER_TOLERANCE = 1e-5, 0.03
"""Of `check`: those of README's bars."""
Groups = Annotated[int, typer.Option(help="Byte tables of an engine.")]
Code = Annotated[str, typer.Option(help=f"How weights are packed: {' or '.join(CODES)}.")]


def quantise(checkpoint: Checkpoint) -> QuantisedModel:
    """`quantise_model` with a progress bar."""
    with progress("calibrating") as update:
        return quantise_model(checkpoint, progress=update)


@app.command("random-checkpoint")
def random_checkpoint(
    shape: Annotated[str, typer.Option(help=f"{', '.join(PUBLISHED)}, or a config.json.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    layers: Annotated[int | None, typer.Option(help="Only so many layers (default: all of the shape).")] = None,
    dtype: Annotated[str, typer.Option(help=f"Of the matrices: {' or '.join(DTYPES)}.")] = "float16",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bytes.")] = 0,
) -> None:
    """Write a checkpoint of a shape with random weights: to try sizes and speed, not to write text."""
    if shape not in PUBLISHED and not Path(shape).is_file():
        known = ", ".join(PUBLISHED)
        raise TritapeError(f"shape must be a config.json or one of {known}, not {shape!r}; choose one of them")
    config = PUBLISHED.get(shape) or ModelConfig.from_file(shape)
    _at_least("layers", layers, 1)
    if layers is not None:
        config = replace(config, num_hidden_layers=layers)
    with progress("drawing") as update:
        size = write_random_checkpoint(config, output, seed, dtype, update)
    out.print(f"{output}: {size:,} bytes of random weights, {config.num_hidden_layers} layers, seed {seed}")


@app.command()
def pack(
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face folder of an hgrn_bit model, or a name.", callback=model_path)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The tape file to write.", callback=output_file)
    ] = Path("model.tape"),
    groups: Groups = 16,
    engines: Annotated[
        int, typer.Option(help="Engines that the tape is for; a word has groups times engines bytes.")
    ] = 1,
    rows: Annotated[int, typer.Option(help="Rows a block: the bitstream's row accumulator.")] = DEFAULT_ROWS,
    code: Annotated[
        str,
        typer.Option(help=f"How weights are packed: {', '.join(CODES)}, or auto: {SPARSE4.name} if the model is 3:4."),
    ] = "auto",
    text: Annotated[
        Path | None,
        typer.Option(help=f"UTF-8 text whose first {CALIBRATION_TOKENS} tokens calibrate (default: the model's own)."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Calibrate a checkpoint and lay it out as a tape. A large model is streamed, layer by layer."""
    started = time.perf_counter()
    wanted = None if code == "auto" else code_named(code)
    Geometry(groups, engines, wanted or TERNARY5)
    characters = None if text is None else read_text(text)
    model = load_checkpoint(checkpoint)
    carried = tape_text(model)
    ids = None
    if characters is not None:
        ids = load_tokenizer(model).encode(characters)[:CALIBRATION_TOKENS]
        if not ids:
            raise TritapeError(f"{text}: text must have at least one token, not none; give a longer one")
    qualities: list[Quality | None] = []
    with progress("calibrating") as update:
        quantised = quantise_model(model, ids, update, qualities.append)
    name = checkpoint.resolve().name
    chosen = wanted or _code_of(quantised, groups, engines)
    with progress("packing") as update:
        metadata = pack_tape(
            quantised, output, groups, rows, carried.tokenizer, name, update, engines, carried.metadata, chosen
        )
    result = {
        "image_bytes": metadata["image_bytes"],
        "groups": groups,
        "engines": engines,
        "code": chosen.name,
        "ternary_weights": ternary_weights(model.config),
        "residual_fraction": quantised.residual_fraction,
        "logit_fraction": quantised.logit_fraction,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time(),
        "peak_memory_bytes": peak_memory(),
        "already_ternary": len(model.already_ternary),
        "quality": None if qualities[0] is None else asdict(qualities[0]) | {"change": qualities[0].change},
    }
    report(result, json_file, f"{output} (time and memory measured)")
    if model.already_ternary:
        _tell_reading(model, characters)
    _tell_quality(qualities[0])


def _code_of(model: QuantisedModel, groups: int, engines: int) -> WeightCode:
    """The code that `pack --code auto` takes: the one of fewest bits that the weights have, if words of this size allow."""
    if not is_sparse4(model):
        return TERNARY5
    try:
        SPARSE4.check_geometry(groups, engines)
    except TritapeError as error:
        _say(f"the model is 3:4, but is packed as {TERNARY5.name}: {error}")
        return TERNARY5
    return SPARSE4


def _tell_reading(model: Checkpoint, characters: str | None) -> None:
    """How weights that were ternary before were read, and whether a text speaks for the other way."""
    reading = "their own magnitude" if model.own_scale else "their mean magnitude, as in the published code,"
    _say(f"{len(model.already_ternary)} matrices were ternary before: read with {reading} as scale")
    if is_streamed(model.config):
        return  # minutes
    text = read_text(default_model_path() / "heldout.txt") if characters is None else characters
    ids = load_tokenizer(model).encode(text[:4096])[:PROBE_TOKENS]
    if len(ids) < 2:
        return
    mean, own = readings(model, ids)
    better, worse, cure = (mean, own, "mean") if model.own_scale else (own, mean, "own")
    if better < 0.9 * worse:
        _say(
            f"warning: the other way suits a text better (perplexity {better:.4g} instead of {worse:.4g}): the "
            f'weights seem to have been made ternary twice; put "ternary_scale": "{cure}" into config.json and pack again'
        )


def _tell_quality(quality: Quality | None) -> None:
    """The last line of `pack`: what the integers cost."""
    if quality is None:
        _say("integer against float: the calibration text has one token, too few to compare")
        return
    _say(str(quality))
    if quality.is_poor:
        _say(
            f"warning: perplexity must grow by at most {LIMIT:.0%}, not {quality.change:.2%}; calibrate on "
            "text of the model's own kind (--text), and measure more of it with `tritape perplexity`"
        )


def _say(line: str) -> None:
    """A remark on stderr."""
    console.print(line, soft_wrap=True, highlight=False)


@app.command()
def golden(
    tape: Annotated[Path, typer.Argument(help="A tape file.")],
    token: Annotated[list[int] | None, typer.Option(help="Token to feed first; repeat it (default 0).")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to choose after them, greedily.")] = 1,
    json_file: JsonFile = None,
) -> None:
    """Run tokens in integers from a tape's bytes. A large model is decoded layer by layer, for every token again."""
    _at_least("tokens", tokens, 1)
    started = time.perf_counter()
    model = IntegerModel(read_model(read_tape(tape), str(tape)))
    opened = time.perf_counter()
    fed = list(token or [0])
    chosen = [int(np.argmax(model.run_integer(fed)[-1]))]
    with progress("running") as update:
        while len(chosen) < tokens:
            update(len(chosen), tokens)
            chosen.append(int(np.argmax(model.step(chosen[-1]))))
    result: dict[str, Any] = {
        "fed": fed,
        "chosen": chosen,
        "saturations": model.saturations,
        "seconds_to_check": opened - started,
        "seconds_to_run": time.perf_counter() - opened,
        "peak_memory_bytes": peak_memory(),
    }
    report(result, json_file, f"{tape} in the integer golden model (time and memory measured)")


@app.command()
def inspect(
    tape: Annotated[Path, typer.Argument(help="A tape file.")],
    json_file: JsonFile = None,
) -> None:
    """Check every CRC of a tape and say what is on it."""
    file = read_tape(tape)
    groups = file.metadata["groups"]
    geometry = file.geometry
    header = read_header(file.image, geometry, str(tape))
    words: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for section, _, _ in sections(file.image, geometry, str(tape)):
        words[section.opcode.name] += geometry.section_words(section)
        count[section.opcode.name] += 1
    model = read_model(file, str(tape))
    streamed = sum(words.values()) + header.row_words
    result: dict[str, Any] = {
        "name": file.metadata["name"],
        "checkpoint_sha256": file.metadata["checkpoint_sha256"],
        "groups": groups,
        "engines": geometry.engines,
        "code": geometry.code.name,
        "hidden": header.hidden,
        "intermediate": header.intermediate,
        "layers": header.layers,
        "vocabulary": header.vocab,
        "rows_a_block": header.rows,
        "residual_fraction": model.residual_fraction,
        "logit_fraction": model.logit_fraction,
        "image_bytes": len(file.image),
        "words_a_token": streamed,
        "ternary_weights": ternary_weights(model.config),
        "packing": ideal_cycles(model.config, geometry.word_bytes, geometry.code) / streamed,
        "sections": dict(count),
        "words": dict(words),
    }
    report(result, json_file, f"{tape} (all CRCs right)")


@app.command()
def check(
    context: typer.Context,
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face folder of an hgrn_bit model, or a name.", callback=model_path)
    ],
    against: Annotated[Path, typer.Option(help="Recorded outputs: npz with ids [n, t] and logits [n, t, vocabulary].")],
    rtl: Annotated[bool, typer.Option("--rtl", help="Also run the hardware, in simulation.")] = False,
    tokens: Annotated[int | None, typer.Option(help="Tokens of each sequence (default all).")] = None,
    groups: Groups = 16,
    tolerance: Annotated[
        float, typer.Option(help="Of the float model: its largest error over the largest recorded logit.")
    ] = FLOAT_TOLERANCE,
    integer_tolerance: Annotated[
        float, typer.Option(help="Of the integer model: its rms error over the rms of the recorded logits.")
    ] = INTEGER_TOLERANCE,
    json_file: JsonFile = None,
) -> None:
    """Compare float model, integer model and hardware with recorded logits of the authors' code. Ends with status 1 when one
    of the models is beyond its tolerance, or the hardware is not bit-exact."""
    _at_least("tokens", tokens, 1)
    for name, limit in (("tolerance", tolerance), ("integer-tolerance", integer_tolerance)):
        if not 0 <= limit < math.inf:
            raise TritapeError(
                f"{name} must be a number from 0 on, not {limit}; {FLOAT_TOLERANCE:g} is that of float64"
            )
    if rtl:
        Config(groups=groups)
        require_compiler()
    else:
        left_out(context, "without --rtl", "groups")
    model = load_checkpoint(checkpoint)
    ids, wanted = _recorded(against, model.config.vocab_size, tokens)
    float_model, integer = FloatModel(model), IntegerModel(quantise(model))
    results: list[list[np.ndarray]] = [[], []]
    runners: list[FloatModel | IntegerModel] = [float_model, integer]
    for kind, runner in enumerate(runners):
        for sequence in ids:
            runner.reset()
            results[kind].append(runner.run(sequence))
    floats, integers = np.array(results[0]), np.array(results[1])
    float_error = float(np.abs(floats - wanted).max() / np.abs(wanted).max())
    integer_error = float(np.sqrt(np.mean((integers - wanted) ** 2) / np.mean(wanted**2)))
    beyond = [
        f"{name} model's error must be at most {limit:g}, not {error:.4g}; record the logits of this "
        f"checkpoint again, or give --{option}"
        for name, option, error, limit in (
            ("float", "tolerance", float_error, tolerance),
            ("integer", "integer-tolerance", integer_error, integer_tolerance),
        )
        if not error <= limit  # what is not a number is beyond it too
    ]
    result: dict[str, Any] = {
        "sequences": len(ids),
        "tokens": int(ids.size),
        "float_max_rel": float_error,
        "int_rel_rms": integer_error,
        "int_top1": float(np.mean(integers.argmax(-1) == wanted.argmax(-1))),
        "tolerance": tolerance,
        "integer_tolerance": integer_tolerance,
        "within_tolerance": not beyond,
    }
    if rtl:
        from tritape.sim.generate import check_tokens

        with progress("simulating") as update:
            result |= check_tokens(integer.model, [list(map(int, s)) for s in ids], groups, update)
    report(result, json_file, f"{checkpoint} against {against}")
    for line in beyond:
        console.print(f"{checkpoint}: {line}", soft_wrap=True, highlight=False)
    if beyond or result.get("rtl_bit_exact") is False:
        raise typer.Exit(1)


@app.command()
def perplexity(
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face folder of an hgrn_bit model, or a name.", callback=model_path)
    ],
    text: Annotated[Path, typer.Argument(help="A UTF-8 text file.")],
    tokens: Annotated[int | None, typer.Option(help="Only this many tokens (default all).")] = None,
    json_file: JsonFile = None,
) -> None:
    """Perplexity of a text under the float model and under the integer model."""
    _at_least("tokens", tokens, 1)
    characters = read_text(text)
    model = load_checkpoint(checkpoint)
    ids = load_tokenizer(model).encode(characters)
    if tokens is not None:
        ids = ids[: tokens + 1]
    result: dict[str, Any] = {}
    for name, runner in (("float", FloatModel(model)), ("integer", IntegerModel(quantise(model)))):
        with progress(name) as update:
            result[f"{name}_perplexity"] = measure_perplexity(runner, np.asarray(ids), progress=update)
    result["change"] = result["integer_perplexity"] / result["float_perplexity"] - 1
    result["tokens"] = len(ids) - 1
    report(result, json_file, f"{checkpoint} on {text}")


def peak_memory() -> int:
    """Bytes of memory that this process had at most, files mapped at the time included."""
    status = Path("/proc/self/status")  # Linux; getrusage there also counts the process that started this one
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise TritapeError(f"{name} must be at least {least}, not {value}; leave it out for all")


def _recorded(path: Path, vocab: int, tokens: int | None) -> tuple[np.ndarray, np.ndarray]:
    """ids int [n, t] and logits float [n, t, vocab] of an npz file."""
    if not path.is_file():
        raise TritapeError(
            f"{path}: recorded outputs must be an npz file, not missing; record them with the authors' code"
        )
    try:
        with np.load(path, allow_pickle=False) as data:
            ids, logits = data["ids"], data["logits"]
    except (ValueError, KeyError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TritapeError(
            f"{path}: file must be an npz with arrays ids and logits, not {why!r}; record it again"
        ) from None
    if ids.ndim != 2 or not ids.size or logits.shape != (*ids.shape, vocab):
        raise TritapeError(
            f"{path}: shapes of ids and logits must be [n, t] and [n, t, {vocab}], not {list(ids.shape)} and "
            f"{list(logits.shape)}; take those of this checkpoint"
        )
    check_ids(ids.reshape(-1), vocab)
    wanted = logits[:, :tokens].astype(np.float64)
    if not np.isfinite(wanted).all() or not wanted.any():
        found = "all 0" if np.isfinite(wanted).all() else "infinite or not a number"
        raise TritapeError(f"{path}: logits must be finite numbers, not {found}; record them again")
    return ids[:, :tokens], wanted
