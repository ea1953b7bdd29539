"""3:4 weights: the quantiser, its residual, the released checkpoint on its way to the tape, and the study."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

from tritape.base.errors import TritapeError  # noqa: E402
from tritape.model.checkpoint import load_checkpoint  # noqa: E402
from tritape.model.codes import SPARSE4  # noqa: E402
from tritape.model.formats import quantise_model  # noqa: E402
from tritape.model.tape.assembler import pack  # noqa: E402
from tritape.model.tape.container import read_tape  # noqa: E402
from tritape.model.tape.reader import read_model  # noqa: E402
from tritape.train import pool  # noqa: E402
from tritape.train.cli import main  # noqa: E402
from tritape.train.model import HGRNBitForCausalLM  # noqa: E402
from tritape.train.plain import BitLinear, straight_ternary  # noqa: E402
from tritape.train.precision import set_precision, set_residual, sparse4, straight_sparse4  # noqa: E402
from tritape.train.recipe import Recipe  # noqa: E402
from tritape.train.studies import sparse4 as study  # noqa: E402
from tritape.train.trainer import Trainer, build_model, load_run, residual_factor  # noqa: E402

torch.set_num_threads(1)
MODEL = {"vocab_size": 136, "hidden_size": 18, "num_hidden_layers": 2, "intermediate_size": 23, "precision": "sparse4"}
TRAIN = {"sequence": 16, "batch": 4, "warmup": 5, "learning_rate": 1e-2}


def recipe(name="run", steps=40, train=None, **model):
    raw = {"model": {**MODEL, **model}, "train": {**TRAIN, **(train or {})}}
    raw["phases"] = [{"steps": steps, "sources": ["austen"]}]
    return Recipe.from_dict(raw, name)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 23), seed=st.integers(0, 1 << 20), levels=st.integers(1, 6))
def test_the_quantiser_against_plain_loops(rows, columns, seed, levels):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-levels, levels + 1, (rows, columns)).astype(np.float32) / 4  # many equal magnitudes, zeros
    expected, kept = np.ones_like(weight), []
    for row in range(rows):
        for start in range(0, columns, 4):
            four = [abs(v) for v in weight[row, start : start + 4]]
            zero = four.index(min(four)) if len(four) == 4 else None
            for k, magnitude in enumerate(four):
                expected[row, start + k] = 0 if k == zero else (1 if weight[row, start + k] >= 0 else -1)
                kept += [magnitude] if k != zero else []
    values, scale = sparse4(torch.from_numpy(weight))
    np.testing.assert_array_equal(values.numpy(), expected)
    assert float(scale) == pytest.approx(max(np.mean(kept), 1e-5), rel=1e-5)
    assert SPARSE4.first_wrong(expected.astype(np.int8)) is None


def test_the_gradient_passes_straight_and_the_residual_adds_its_own():
    weight = torch.randn(3, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    straight_sparse4(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
    model = build_model(recipe().model, 0)
    factor = torch.tensor(0.25)
    matrix = model.lm_head
    plain = matrix._weights().detach().clone()
    for kind, expected in (
        ("latent", plain + 0.25 * matrix.weight),
        ("ternary", 0.75 * plain + 0.25 * straight_ternary(matrix.weight)),
    ):
        set_residual(model, factor, kind)
        torch.testing.assert_close(model.train().lm_head._weights(), expected)
        assert torch.equal(model.eval().lm_head._weights(), plain)  # nothing is measured with a residual
    model.train()
    factor.zero_()
    torch.testing.assert_close(matrix._weights(), plain)


def test_the_fused_path_is_refused():
    model = HGRNBitForCausalLM(recipe().model.config, "fused")
    with pytest.raises(
        TritapeError, match="precision must be ternary on the fused path, not 'sparse4'; build the model"
    ):
        set_precision(model, "sparse4")
    set_precision(model, "ternary")


def test_the_residual_falls_to_zero():
    straight = recipe(steps=100, train={"residual": 0.5})
    assert [residual_factor(step, straight) for step in (0, 30, 60, 99)] == pytest.approx([0.5, 0.25, 0, 0])
    cosine = recipe(steps=100, train={"residual": 1.0, "residual_share": 0.8, "residual_curve": "cosine"})
    values = [residual_factor(step, cosine) for step in (0, 20, 40, 80, 90)]
    assert values == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0, 0], abs=1e-12)


def test_a_step_uses_the_residual_of_its_recipe(corpus, tmp_path):
    with_residual = Trainer(recipe(steps=4, train={"residual": 0.5}), corpus, tmp_path / "a", "cpu")
    without = Trainer(recipe(steps=4), corpus, tmp_path / "b", "cpu")
    for trainer in (with_residual, without):
        trainer._fill(0)
        trainer.model.train()
    ids, targets = without._ids[:, :-1], without._ids[:, 1:]
    first, second = (float(t.objective(ids, targets).detach()) for t in (with_residual, without))
    assert first != second
    with_residual._fill(3)  # past 60 % of four steps
    with_residual._ids.copy_(without._ids)
    assert float(with_residual.objective(ids, targets).detach()) == second


def test_recipes_refuse_residuals_that_mean_nothing():
    for change, message in (
        (
            {"precision": "ternary", "train": {"residual": 0.5}},
            r'train\.residual must be 0 for ternary weights, not 0\.5; leave it out, or set model\.precision to "sparse4"',
        ),
        (
            {"train": {"residual_share": 1.5}},
            r"train\.residual_share must be above 0 and at most 1, not 1\.5; correct it",
        ),
        (
            {"train": {"residual_curve": "step"}},
            r"train\.residual_curve must be one of linear, cosine, not 'step'; choose",
        ),
        ({"train": {"residual_kind": "x"}}, r"train\.residual_kind must be one of latent, ternary, not 'x'; choose"),
    ):
        with pytest.raises(TritapeError, match=message):
            recipe(**change)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished 3:4 run with a residual: (trainer, its folder). Hidden 18 and intermediate 23 leave tails of 2 and 3."""
    trainer = Trainer(recipe(train={"residual": 0.5}), corpus, tmp_path_factory.mktemp("work"), "cpu")
    assert trainer.train()["valid_bits_per_byte"] < 2.0
    return trainer, trainer.folder


def test_a_released_model_is_an_ordinary_ternary_checkpoint(run):
    trainer, folder = run
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "hgrn_bit"
    assert "ternary_scale" not in config  # magnitudes are scale / density, so their mean is the scale: reading "mean"
    checkpoint = load_checkpoint(folder)
    own = checkpoint.with_own_scale(True)
    for name, module in trainer.model.named_modules():
        if isinstance(module, BitLinear):
            values, scale = sparse4(module.weight)
            read = checkpoint.bitlinear(name)
            np.testing.assert_array_equal(read.weights, values.numpy())
            assert SPARSE4.first_wrong(read.weights) is None
            assert read.scale == pytest.approx(float(scale), rel=2e-3)
            np.testing.assert_array_equal(own.ternary(name), read.weights)
            assert own.scale(name) == pytest.approx(
                float(scale / values.abs().mean()), rel=2e-3
            )  # would be 4/3 too large
            assert name in checkpoint.already_ternary


def test_the_tape_holds_the_trained_bits(run, tmp_path):
    trainer, folder = run
    pack(quantise_model(load_checkpoint(folder), list(range(40))), tmp_path / "a.tape", 4)
    model = read_model(read_tape(tmp_path / "a.tape"))
    for index, block in enumerate(trainer.model.blocks()):
        for name, module in (
            *((kind, getattr(block.attn, f"{kind}_proj")) for kind in "ifgo"),
            ("gate", block.mlp.gate_proj),
            ("down", block.mlp.down_proj),
        ):
            values = sparse4(module.weight)[0].numpy()
            if name == "gate":  # gate and up rows alternate on the tape
                values = values.reshape(2, -1, values.shape[1]).transpose(1, 0, 2).reshape(values.shape)
            np.testing.assert_array_equal(model.layers[index].projections[name].weights, values)
            SPARSE4.check(name, model.layers[index].projections[name].weights)
    np.testing.assert_array_equal(model.head.weights, sparse4(trainer.model.lm_head.weight)[0].numpy())


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 19), seed=st.integers(0, 1 << 20), flips=st.integers(0, 2))
def test_the_first_weight_that_is_not_sparse4(rows, columns, seed, flips):
    rng = np.random.default_rng(seed)
    values = sparse4(torch.from_numpy(rng.standard_normal((rows, columns))))[0].numpy().astype(np.int8)
    for _ in range(flips):
        row, column = rng.integers(rows), rng.integers(columns)
        values[row, column] = 1 if values[row, column] == 0 else 0
    expected = None
    for row in range(rows):
        for start in range(0, columns, 4):
            zeros = [start + k for k, value in enumerate(values[row, start : start + 4]) if value == 0]
            wrong = zeros[1:2] or ([start + 3] if not zeros and start + 4 <= columns else [])
            if wrong and expected is None:
                expected = (row, wrong[0])
    assert SPARSE4.first_wrong(values) == expected


def test_errors_name_tensor_row_and_column():
    values = np.array([[1, 0, -1, 1, 1, 0], [0, 1, 1, -1, 0, 0]], np.int8)
    with pytest.raises(
        TritapeError,
        match=r"tensor lm_head: row 1 must have one zero in columns 4 to 5, not \[0, 0\] \(column 5\); pack it as "
        "ternary5, or train it with precision sparse4",
    ):
        SPARSE4.check("lm_head", values)
    values = np.array([[1, 1, -1, 1]], np.int8)
    with pytest.raises(
        TritapeError, match=r"row 0 must have one zero in columns 0 to 3, not \[1, 1, -1, 1\] \(column 3\)"
    ):
        SPARSE4.check("lm_head", values)
    SPARSE4.check("lm_head", np.array([[1, 0, 1, 1, 1, -1]], np.int8))  # the zero of a tail may lie in the padding


def test_shapes_of_the_study_have_equal_bytes():
    groups = {}
    for row in study.ROWS:
        groups.setdefault(row.group, []).append(row)
    for rows in groups.values():
        dense = next((row for row in rows if row.precision == "ternary"), study.ROWS[0])
        for row in rows:
            if "bytes" in row.key:
                assert row.bytes == pytest.approx(dense.bytes, rel=0.005)
            if "weights" in row.key:
                assert row.weights == pytest.approx(dense.weights, rel=0.035)
    assert study.ROWS[0].bytes == 189_072


def train_here(recipes, corpus, work, device, workers, seconds, done):
    """`run_all` without processes."""
    for chosen in recipes:
        done(chosen.name, Trainer(chosen, corpus, work, device).train())


def test_the_study_trains_forces_and_summarises(corpus, tmp_path, monkeypatch, capsys):
    shape, group = (136, 16, 2, 24), "a group"
    rows = [
        study.Row(group, "dense-4k", shape, 4, "ternary", dict(TRAIN), seeds=1),
        study.Row(group, "bytes-4k", (136, 18, 2, 26), 4, train={**TRAIN, "residual": 0.5}, seeds=1),
    ]
    monkeypatch.setattr(study, "ROWS", rows)
    monkeypatch.setattr(study, "recipes", lambda: {row.names()[0]: row.recipe(1) for row in rows})
    monkeypatch.setattr(pool, "run_all", train_here)
    arguments = ["study", "sparse4", str(tmp_path / "out"), "--corpus", str(corpus), "--work", str(tmp_path / "runs")]
    arguments += ["--device", "cpu", "--workers", "2"]
    for seconds in ("300", "0"):  # the second time it prints what is there
        monkeypatch.setattr(sys, "argv", ["tritape-train", *arguments, "--seconds", seconds])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
    lines = [json.loads(line) for line in (tmp_path / "out" / "sparse4.jsonl").read_text().splitlines()]
    names = ["forced-sparse4-dense-4k-1", "sparse4-bytes-4k-1", "sparse4-dense-4k-1"]
    assert sorted(line["name"] for line in lines) == names
    assert lines[0]["curve"][-1] == [4, lines[0]["valid_bits_per_byte"]]
    summary = json.loads((tmp_path / "out" / "sparse4.json").read_text())
    table = summary["groups"][group]
    assert list(table) == ["dense-4k", "bytes-4k", "forced-dense-4k"]
    difference = table["bytes-4k"]["mean"] - table["dense-4k"]["mean"]
    assert table["bytes-4k"]["against_dense"] == pytest.approx(difference)
    assert table["forced-dense-4k"]["bytes"] == round(rows[0].weights * 1.25 / 8)
    forced = load_run(Recipe.from_dict(rows[0].recipe(1), "x"), tmp_path / "runs" / rows[0].names()[0])
    set_precision(forced, "sparse4")
    assert forced.lm_head.precision == "sparse4"
    assert "forced-dense-4k" in capsys.readouterr().out
    assert (tmp_path / "out" / "sparse4.png").stat().st_size > 1000


def test_a_study_that_may_not_train_says_what_is_missing(corpus, tmp_path, monkeypatch, capsys):
    arguments = ["study", "sparse4", str(tmp_path), "--corpus", str(corpus), "--work", str(tmp_path), "--seconds", "0"]
    monkeypatch.setattr(sys, "argv", ["tritape-train", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "sparse4.jsonl: results must be there, not be missing; give the study more than 0 seconds" in error
    assert not list(tmp_path.iterdir())


def test_runs_are_spread_over_the_gpus(tmp_path, monkeypatch):
    started = []

    class Finished:
        """A process that has written its result after three looks."""

        returncode = 0

        def __init__(self, command, stdout, stderr, env):
            started.append(env.get("CUDA_VISIBLE_DEVICES"))
            self.looks, self.folder = 0, Path(command[4]).parent

        def poll(self):
            self.looks += 1
            (self.folder / "result.json").write_text("{}")
            return 0 if self.looks > 3 else None

    monkeypatch.setattr(pool.subprocess, "Popen", Finished)
    monkeypatch.setattr(pool.time, "sleep", lambda seconds: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pool, "_gpus", lambda: 3)
    jobs = [recipe(f"run-{index}") for index in range(7)]
    assert len(pool.run_all(jobs, tmp_path, tmp_path, "cuda", 6, 100, lambda name, result: None)) == 7
    assert started == ["0", "1", "2", "0", "1", "2", "0"]
    monkeypatch.setattr(pool, "_gpus", lambda: 1)
    pool.run_all(jobs[:1], tmp_path, tmp_path, "cuda", 6, 100, lambda name, result: None)
    assert started[-1] is None
