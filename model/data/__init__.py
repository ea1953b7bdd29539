"""The models embedded in the package, so that every command works without a download."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def default_model_path() -> Path:
    """Folder of the embedded checkpoint (hidden 130, 4 layers, vocabulary 512, with tokenizer.json and heldout.txt)."""
    return Path(str(files(__name__))) / "small"


def embedded_models() -> dict[str, Path]:
    """Folders of all embedded checkpoints by name, such as `base`."""
    return {path.parent.name: path.parent for path in sorted(default_model_path().parent.glob("*/config.json"))}
