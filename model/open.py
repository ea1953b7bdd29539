"""Opening a model: from a path, a tape or a name to its integers, its tape and its tokenizer, for everyone who runs one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import Checkpoint, load_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path, embedded_models
from tritape.model.formats import quantise_model
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.model.tape.container import TapeFile, read_tape
from tritape.model.tape.layout import Geometry
from tritape.model.tape.reader import read_model
from tritape.model.tokenizer import BYTE_VOCABULARY, TextCodec, load_tokenizer, tape_tokenizer
from tritape.model.weights import download_command


@dataclass(frozen=True, eq=False)
class OpenModel:
    """A model that is ready to run: made by `open_model`, of a checkpoint or of a tape.

    name: what people call it; path: where it is; tape: the tape file, None of a checkpoint; checkpoint: None of a tape;
    progress: told of the calibration.
    """

    name: str
    config: ModelConfig
    path: Path
    checkpoint: Checkpoint | None = None
    tape: TapeFile | None = None
    progress: Callable[[int, int], None] | None = None

    @property
    def sha256(self) -> str:
        """Of the checkpoint that it is, or that its tape was packed from."""
        if self.tape is not None:
            return str(self.tape.metadata["checkpoint_sha256"])
        assert self.checkpoint is not None
        return self.checkpoint.sha256

    @cached_property
    def codec(self) -> TextCodec:
        """Its tokenizer, or bytes where it has none and a vocabulary of 256. Raises TritapeError for a model without text."""
        if self.tape is not None:
            return tape_tokenizer(self.tape, str(self.path))
        assert self.checkpoint is not None
        return load_tokenizer(self.checkpoint)

    @property
    def has_text(self) -> bool:
        """Whether `codec` is there: some tapes have none."""
        if self.tape is None:
            return True  # `load_tokenizer` refuses other checkpoints
        return bool(self.tape.tokenizer) or self.config.vocab_size == BYTE_VOCABULARY

    @cached_property
    def quantised(self) -> QuantisedModel:
        """Its integers: a checkpoint is calibrated, a tape decoded, when this is asked for first."""
        if self.tape is not None:
            return read_model(self.tape, str(self.path))
        assert self.checkpoint is not None
        return quantise_model(self.checkpoint, progress=self.progress)

    def image(self, geometry: Geometry, max_rows: int) -> bytes:
        """The memory image for engines of a geometry and a row accumulator of `max_rows`; a tape's is as it was packed.

        The geometry of a tape is for the caller to check (`tritape.host.limits`).
        """
        if self.tape is not None:
            return bytes(self.tape.image)
        return image(self.quantised, geometry.groups, max_rows, geometry.engines, geometry.code)


def find_model(model: str | Path) -> Path:
    """Where a model is: the file or checkpoint folder at the path, or else the embedded model of that name.

    Raises TritapeError for neither.
    """
    path, names = Path(model), embedded_models()
    if path.is_file() or (path / "config.json").is_file():
        return path
    if str(model) in names:  # any other folder of that name does not hide it
        return names[str(model)]
    if path.exists():
        return path  # `load_checkpoint` says what it lacks
    if (command := download_command(path)) is not None:
        raise TritapeError(
            f"{model}: model must be a checkpoint folder, a tape or a name, not one on the hub; run: {command}"
        )
    raise TritapeError(
        f"{model}: model must be a checkpoint folder, a tape or a name, not missing; names are {', '.join(names)}"
    )


def open_model(model: str | Path | None = None, progress: Callable[[int, int], None] | None = None) -> OpenModel:
    """Open a checkpoint folder, a tape file, or an embedded model by its name (None: the default one).

    Every tensor of a checkpoint, or the metadata of a tape, is checked here; a checkpoint is calibrated, with
    `progress(done, total)`, and a tape decoded, when `OpenModel.quantised` is asked for. Raises TritapeError with the cure.
    """
    path = default_model_path() if model is None else find_model(model)
    if path.is_file():
        tape = read_tape(path)
        config = ModelConfig.from_dict(tape.metadata["config"], str(path))
        return OpenModel(path.stem, config, path, tape=tape)
    checkpoint = load_checkpoint(path)
    return OpenModel(path.resolve().name, checkpoint.config, path, checkpoint=checkpoint, progress=progress)
