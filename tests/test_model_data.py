"""The models that come with the package: whole, and of the sizes that their boards can hold."""

import pytest

from tritape.hw.config import Config
from tritape.model.checkpoint import load_checkpoint
from tritape.model.data import default_model_path
from tritape.model.tokenizer import load_tokenizer
from tritape.rtl_gen.estimate import estimate_tokens

FOLDER = default_model_path().parent
LIMITS = {  # name: (engine, most bytes read a token, most bytes of the image, most cycles a token)
    # the starter's tape and image, 26 bytes wide; 5,000 tokens/s at 80 MHz
    "small": ({"groups": 26}, 252_304, 332_176, 16_000),
    # 8,704 words of block RAM; 7,000 tokens/s at 70 MHz
    "small-sparse": ({"groups": 20, "engines": 2, "code": "sparse4"}, 252_304, 348_160, 10_000),
    "tiny": ({"groups": 8}, 110_000, 131_072, 20_000),  # single-port RAM of an iCE40UP5K
    "nano": ({"groups": 8}, 30_000, 45_000, 10_000),  # block RAM of a GW1NR-9 and little else
    "base": ({"groups": 16}, 8_000_000, 8_000_000, 80_000),  # SDRAM
}


@pytest.mark.parametrize("name", LIMITS)
def test_default_models_fit_their_boards(name):
    checkpoint = load_checkpoint(FOLDER / name)
    engine, tape, image, cycles = LIMITS[name]
    estimate = estimate_tokens(checkpoint.config, Config.for_model(checkpoint.config, **engine), 80e6, None)
    assert estimate["tape_bytes"] <= tape
    assert estimate["image_bytes"] <= image
    assert estimate["cycles_per_token"] <= cycles
    assert estimate["padding"] == 0


@pytest.mark.parametrize("name", LIMITS)
def test_default_models_spell_their_heldout_text(name):
    text = (default_model_path() / "heldout.txt").read_text()[:2000]
    codec = load_tokenizer(load_checkpoint(FOLDER / name))
    ids = codec.encode(text)
    assert codec.decode(ids) == text
    assert len(ids) < len(text) / 1.8
