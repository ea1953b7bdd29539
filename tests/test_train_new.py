"""One's own text to a tape in three commands, and recipes that name text files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

import tritape.cli  # noqa: E402
from tritape.base.errors import TritapeError  # noqa: E402
from tritape.model.data import default_model_path  # noqa: E402
from tritape.model.tape.container import read_tape  # noqa: E402
from tritape.train import cli  # noqa: E402
from tritape.train.data.own import own_text  # noqa: E402
from tritape.train.new import new_project  # noqa: E402
from tritape.train.recipe import Recipe, load_recipe  # noqa: E402
from tritape.train.tokenize import needs_bytes, train_tokenizer  # noqa: E402

torch.set_num_threads(1)
ENGLISH = (default_model_path() / "heldout.txt").read_text(encoding="utf-8")[:60_000]
GREEK = "Ἄνδρα μοι ἔννεπε, Μοῦσα, πολύτροπον, ὃς μάλα πολλὰ\nπλάγχθη, ἐπεὶ Τροίης ἱερὸν πτολίεθρον ἔπερσε.\n" * 60


def invoke(app: object, *arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)  # type: ignore[arg-type]
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_three_commands_lead_to_a_tape(tmp_path, monkeypatch):
    """Texts as Windows and as Linux save them, with spaces in every name; the commands are those that `new` prints."""
    monkeypatch.chdir(tmp_path)
    Path("my text.txt").write_bytes(b"\xef\xbb\xbf" + ENGLISH.replace("\n", "\r\n").encode())
    Path("other.md").write_bytes(ENGLISH[::-1].encode("utf-16"))
    said = invoke(cli.app, "new", "my model", "my text.txt", "other.md", "--like", "nano", "--steps", "3")
    assert "tritape-train train 'my model/my model.toml' --work 'my model/runs'" in said
    assert "tritape pack 'my model/runs/my model' -o 'my model.tape'" in said
    recipe = load_recipe("my model/my model.toml")
    assert recipe.steps == 3
    assert recipe.model == load_recipe("nano").model
    assert (tmp_path / "my model" / "texts" / "my text.txt").read_text() == ENGLISH.rstrip("\n") + "\n"
    invoke(cli.app, "train", "my model/my model.toml", "--work", "my model/runs", "--device", "cpu")
    tritape.cli.register()
    invoke(tritape.cli.app, "pack", "my model/runs/my model", "-o", "my model.tape", "--json", "pack.json")
    tape = read_tape(tmp_path / "my model.tape")
    assert tape.metadata["name"] == "my model"
    assert json.loads(Path("pack.json").read_text())["image_bytes"] == len(tape.image)


def test_a_text_in_another_script_keeps_its_letters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odyssey.txt").write_text(GREEK, encoding="utf-16")
    recipe = new_project(Path("greek"), [Path("odyssey.txt")], "tiny")
    assert needs_bytes([GREEK])
    assert not needs_bytes([ENGLISH + "“—”" * 500])
    from tritape.train.trainer import prepare

    tokenizer, ids, valid = prepare(Recipe.from_file(recipe), Path("none"), Path("work"))
    made = tokenizers.Tokenizer.from_file(str(tokenizer))
    assert made.decode(made.encode(GREEK).ids) == GREEK
    assert valid in GREEK
    assert 256 < made.get_vocab_size() < 512, "a text that is too short for 512 pieces gets fewer"
    assert sum(map(len, ids.values())) < len(GREEK.encode())
    with pytest.raises(
        TritapeError, match="vocabulary must be at least 256 for texts beyond ASCII, not 200; choose a larger"
    ):
        train_tokenizer([GREEK], 200)


@pytest.mark.parametrize("size", [2_000, 20_000, 200_000])
def test_batches_fit_short_texts(tmp_path, size):
    """What `new` chooses can be trained: a batch is filled, and sequences are no longer than the recipe's."""
    from tritape.train.batches import Crops
    from tritape.train.trainer import prepare

    text = (ENGLISH * 4)[:size]
    (tmp_path / "text.txt").write_text(text)
    recipe = Recipe.from_file(new_project(tmp_path / "new", [tmp_path / "text.txt"], "nano"))
    _, ids, valid = prepare(recipe, tmp_path, tmp_path / "work")
    assert valid
    Crops(sum(map(len, ids.values())), recipe.train.sequence, recipe.train.batch, 0)
    assert recipe.train.sequence <= load_recipe("nano").train.sequence
    assert 300 <= recipe.steps <= load_recipe("nano").steps


def test_parts_of_a_text_are_cut_at_ends_of_lines(tmp_path):
    for text, lines in ((ENGLISH.replace(". ", ".\n"), True), ("no line ends here " * 500, False)):
        (tmp_path / "text.txt").write_text(text)
        parts = own_text(tmp_path / "text.txt")
        assert parts.train + parts.valid + parts.heldout == text
        for part, share in ((parts.train, 0.96), (parts.valid, 0.02), (parts.heldout, 0.02)):
            assert len(part) / len(text) == pytest.approx(share, abs=0.011)
            assert not lines or part.endswith("\n") or part is parts.heldout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "texts must be at least one file, not none; give their paths"),
        (("none.txt",), "none.txt: text must be a file, not missing; give its path"),
        (("short.txt",), "short.txt: text must have at least 2000 characters, not 5; join it with another"),
        (("latin.txt",), "latin.txt: text must be UTF-8, not have byte 0xe4 at 0; save it as UTF-8"),
    ],
)
def test_wrong_texts(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("short")
    Path("latin.txt").write_bytes("ä".encode("latin-1") * 3000)
    with pytest.raises(TritapeError, match=message):
        new_project(Path("new"), [Path(name) for name in arguments], "nano")
    assert not Path("new").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(TritapeError, match="full: folder must be new or empty, not hold other files; choose another"):
        new_project(Path("full"), [Path("short.txt")], "nano")
    with pytest.raises(TritapeError, match="like must be a recipe of type hgrn_bit, which tritape runs, not 'teacher'"):
        new_project(Path("new"), [Path("short.txt")], "teacher")


def test_recipes_name_files_from_their_own_folder(tmp_path, monkeypatch):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "text.txt").write_text(ENGLISH)
    nano = load_recipe("nano").to_dict()
    lines = ["[model]", *(f"{name} = {json.dumps(value)}" for name, value in nano["model"].items())]
    lines += ["[[phases]]", "steps = 5", 'sources = ["text.txt", "austen"]']
    path = tmp_path / "a folder" / "mine.toml"
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    recipe = Recipe.from_file(path)
    assert recipe.sources == [str(tmp_path / "a folder" / "text.txt"), "austen"]
    assert recipe.tokenizer_name.startswith("tokenizer-256-austen+text-")
    assert Recipe.from_dict(recipe.to_dict(), "mine") == recipe
    path.write_text("\n".join(lines).replace("text.txt", "none.txt"))
    with pytest.raises(
        TritapeError, match=r"source must be one of austen, .*, or a text file, not 'none.txt'; correct it"
    ):
        Recipe.from_file(path)
