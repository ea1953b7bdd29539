"""Training runs on a CPU: resuming bit for bit, several processes, teachers, precisions, released checkpoints."""

import importlib
import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

from tritape.base.errors import TritapeError  # noqa: E402
from tritape.model.checkpoint import load_checkpoint  # noqa: E402
from tritape.model.reference import FloatModel  # noqa: E402
from tritape.train import rounding  # noqa: E402
from tritape.train.bench import run as run_measurement  # noqa: E402
from tritape.train.cli import STUDIES, main  # noqa: E402
from tritape.train.evaluate import bits_per_byte  # noqa: E402
from tritape.train.model import load_model  # noqa: E402
from tritape.train.optimiser import Optimiser, is_matrix, orthogonalised  # noqa: E402
from tritape.train.plain import BitLinear, straight_ternary  # noqa: E402
from tritape.train.pool import run_all  # noqa: E402
from tritape.train.precision import QUANTISERS, set_precision  # noqa: E402
from tritape.train.recipe import Recipe, load_recipe, names  # noqa: E402
from tritape.train.studies.scaling import fit_power  # noqa: E402
from tritape.train.tokenize import encode_cached  # noqa: E402
from tritape.train.trainer import Trainer, build_model, learning_rate, load_run  # noqa: E402

torch.set_num_threads(1)
MODEL = {"vocab_size": 136, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
TRAIN = {"sequence": 16, "batch": 4, "warmup": 5, "learning_rate": 1e-2}


def recipe(name="run", steps=60, teacher=None, train=None, **model):
    raw = {"model": {**MODEL, **model}, "train": {**TRAIN, **(train or {})}}
    raw["phases"] = [{"steps": steps, "sources": ["austen"]}]
    if teacher is not None:
        raw["teacher"] = {"recipes": [teacher], "weight": 0.5}
    return Recipe.from_dict(raw, name)


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("muon", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_resumed_run_is_bit_equal(corpus, tmp_path, muon):
    whole = Trainer(recipe(train={"muon": muon}), corpus, tmp_path / "a", "cpu")
    result = whole.train()
    Trainer(recipe(train={"muon": muon}), corpus, tmp_path / "b", "cpu").train(stop_at=23)
    resumed = Trainer(recipe(train={"muon": muon}), corpus, tmp_path / "b", "cpu")
    assert resumed.step == 23
    assert resumed.train()["valid_bits_per_byte"] == result["valid_bits_per_byte"]
    after = weights(resumed)
    assert all(torch.equal(value, after[name]) for name, value in weights(whole).items())
    assert result["valid_bits_per_byte"] < 1.7  # 2.5 for words drawn at random one by one would need no learning


def test_a_state_of_another_recipe_is_refused(corpus, tmp_path):
    Trainer(recipe(), corpus, tmp_path, "cpu").train(stop_at=2)
    with pytest.raises(
        TritapeError, match="state must be of this recipe, not of an older run; delete the run's folder"
    ):
        Trainer(recipe(steps=61), corpus, tmp_path, "cpu")


def test_released_checkpoint_is_the_trained_model(corpus, tmp_path):
    trainer = Trainer(recipe(), corpus, tmp_path, "cpu")
    result = trainer.train()
    checkpoint = load_checkpoint(tmp_path / "run")
    measured = bits_per_byte(load_model(tmp_path / "run").eval(), trainer.tokenizer, trainer.valid, tmp_path, 16)
    assert measured == result["valid_bits_per_byte"]  # the figure of a run is that of its files
    for name, module in trainer.model.named_modules():
        if isinstance(module, BitLinear):
            quantised = checkpoint.bitlinear(name)
            weight = module.weight.detach()
            expected = straight_ternary(weight).numpy()
            np.testing.assert_array_equal(quantised.weights, np.sign(expected))
            assert quantised.scale == pytest.approx(float(weight.abs().mean()), rel=2e-3)
    ids = [3, 99, 40, 41, 7]
    float_model = FloatModel(checkpoint)
    ours = trainer.model(torch.tensor([ids]))[0].detach().numpy()
    theirs = np.stack([float_model.step(token) for token in ids])
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(ours).max()
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {"tokenizer.json", "loss.png", "result.json", "log.jsonl"}


def test_released_weights_do_not_hang_on_the_last_bit(corpus, tmp_path, monkeypatch):
    Trainer(recipe(), corpus, tmp_path, "cpu").train()
    arguments = [str(tmp_path / "run"), str(corpus / "austen.valid.txt"), "--json", str(tmp_path / "rounding.json")]
    monkeypatch.setattr(sys, "argv", ["rounding", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_measurement(rounding.main)
    assert not stopped.value.code
    figures = json.loads((tmp_path / "rounding.json").read_text())
    assert figures["released, cpu, float64"] == pytest.approx(figures["released, cpu, float32"], rel=1e-5)
    assert figures["weights"] == 2 * (4 * 16 + 3 * 24) * 16 + 136 * 16


def test_latents_near_a_threshold_are_counted():
    model = build_model(recipe().model, 0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BitLinear):
                module.weight.fill_(1.0)
        model.lm_head.weight[0, :4] = torch.tensor([0.5, -0.5 - 5e-6, 1.5, 1.5])  # the mean magnitude stays 1
    counts = rounding.near_threshold(model, "cpu")
    assert (counts["within_1e-07"], counts["within_1e-06"], counts["within_1e-05"]) == (1, 1, 2)
    assert counts["cpu_differs"] == 0


def test_one_inner_gain_for_three_matrices(corpus, tmp_path):
    Trainer(recipe(steps=3, shared_gain=True), corpus, tmp_path, "cpu").train()
    checkpoint = load_checkpoint(tmp_path / "run")
    for layer in range(2):
        i, f, g = (checkpoint.tensor(f"model.layers.{layer}.attn.{name}_proj.norm.weight") for name in "ifg")
        assert (i == f).all()
        assert (i == g).all()
        assert (i != 1).any()
    with pytest.raises(TritapeError, match=r"model\.shared_gain must be false for transformer, not true"):
        recipe(kind="transformer", shared_gain=True)


@pytest.mark.slow
def test_two_processes_train_as_one(corpus, tmp_path):
    one = Trainer(recipe(steps=6), corpus, tmp_path / "one", "cpu")
    one.train()
    (tmp_path / "run.json").write_text(json.dumps(recipe(steps=6).to_dict()))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29611"]
    command += ["-m", "tritape.train.cli", "train", str(tmp_path / "run.json"), "--device", "cpu"]
    command += ["--corpus", str(corpus), "--work", str(tmp_path / "two")]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    two = load_run(recipe(steps=6), tmp_path / "two" / "run")
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=0, atol=2e-3)


def test_a_student_needs_its_teacher_and_learns_from_it(corpus, tmp_path):
    student = recipe("student", steps=4, teacher="teacher")
    with pytest.raises(TritapeError, match="teacher must be a finished run, not missing; train recipe teacher first"):
        Trainer(student, corpus, tmp_path, "cpu")
    Trainer(recipe("teacher", steps=30, kind="transformer", dropout=0.1), corpus, tmp_path, "cpu").train()
    trainer = Trainer(student, corpus, tmp_path, "cpu")
    trainer._fill(0)
    ids, targets = trainer._ids[:, :-1], trainer._ids[:, 1:]
    log_p = trainer.model(ids).float().log_softmax(-1)
    soft = trainer.teachers[0](ids).softmax(-1)
    mixed = 0.5 * torch.nn.functional.one_hot(targets, 136) + 0.5 * soft
    expected = float(-(mixed * log_p).sum(-1).mean().detach())
    assert float(trainer.objective(ids, targets).detach()) == pytest.approx(expected, rel=1e-5)
    assert all(not p.requires_grad for p in trainer.teachers[0].parameters())
    other = Recipe.from_dict({**student.to_dict(), "model": {**MODEL, "vocab_size": 130}}, "other")
    with pytest.raises(TritapeError, match=r"teacher must use tokenizer-130-austen\.json, not tokenizer-136-austen"):
        Trainer(other, corpus, tmp_path, "cpu")


@pytest.mark.slow
def test_pool_goes_on_after_a_failure(corpus, tmp_path):
    bad = recipe("bad", steps=50, train={"learning_rate": 1e9, "batch": 1})
    orphan = recipe("orphan", steps=2, teacher="bad")
    told = []
    results = run_all(
        [orphan, bad, recipe("good", steps=2)], corpus, tmp_path, "cpu", 2, 100, lambda name, result: told.append(name)
    )
    assert [result["recipe"] for result in results] == ["orphan", "bad", "good"]
    assert results[0]["error"] == "teacher bad failed"
    assert "loss must be finite, not nan at step 50; lower learning_rate" in results[1]["error"]
    assert results[2]["valid_bits_per_byte"] > 0
    assert sorted(told) == ["bad", "good", "orphan"]


def test_weight_decay_touches_ternary_matrices_only():
    model = build_model(recipe().model, 0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimiser = Optimiser(model, weight_decay=0.5, muon=False)
    optimiser.learning_rate.fill_(0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, value in model.named_parameters():
        factor = 0.95 if name == "lm_head.weight" or name.endswith("_proj.weight") else 1.0
        torch.testing.assert_close(value.data, before[name] * factor)
        assert is_matrix(name, value) == (factor != 1.0)


def test_adamw_is_that_of_pytorch():
    ours, theirs = build_model(recipe().model, 0), build_model(recipe().model, 0)
    optimiser = Optimiser(ours, weight_decay=0.1, muon=False)
    groups = [
        {"params": [p for n, p in theirs.named_parameters() if is_matrix(n, p) is decay], "weight_decay": 0.1 * decay}
        for decay in (False, True)
    ]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), eps=1e-8)
    optimiser.learning_rate.fill_(1e-2)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimiser.step()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_muon_makes_singular_values_near_one():
    matrix = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_schedule_warms_up_and_ends_at_zero():
    chosen = recipe(steps=40)
    rates = [learning_rate(step, chosen) for step in range(41)]
    assert rates[0] == pytest.approx(1e-2 / 5)
    assert max(rates) == pytest.approx(1e-2)
    assert rates[40] == pytest.approx(0, abs=1e-12)
    assert all(a >= b for a, b in pairwise(rates[5:]))


@pytest.mark.parametrize("precision", QUANTISERS)
def test_precisions_have_their_values_and_pass_gradients(precision):
    weight = torch.randn(6, 10, generator=torch.Generator().manual_seed(1)).requires_grad_()
    quantised = QUANTISERS[precision](weight)
    levels = {"binary": 2, "ternary": 3, "sparse4": 3, "int4": 15, "float": 10}[precision]
    assert all(len(torch.unique(row.detach().round(decimals=6))) <= levels for row in quantised)
    quantised.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
    model = build_model(recipe().model, 0)
    plain = model(torch.tensor([[1, 2, 3]]))
    set_precision(model, precision)
    changed = model(torch.tensor([[1, 2, 3]]))
    assert torch.equal(plain, changed) == (precision == "ternary")


def test_unknown_precision_is_refused():
    with pytest.raises(
        TritapeError, match="precision must be one of binary, ternary, sparse4, int4, float, not 'int2'"
    ):
        set_precision(build_model(recipe().model, 0), "int2")


@pytest.mark.parametrize("kind", ["hgrn_bit", "transformer"])
def test_models_are_causal_and_counted_as_documented(kind):
    model = build_model(recipe(kind=kind).model, 0).eval()
    ids = torch.randint(0, 136, (1, 12), generator=torch.Generator().manual_seed(0))
    later = ids.clone()
    later[0, 8:] = 5
    torch.testing.assert_close(model(ids)[:, :8], model(later)[:, :8])
    assert not torch.allclose(model(ids)[:, 8:], model(later)[:, 8:])
    matrices = sum(p.numel() for n, p in model.named_parameters() if is_matrix(n, p) and n != "lm_head.weight")
    assert matrices == 2 * (4 * 16 + 3 * 24) * 16


def test_bits_per_byte_of_a_uniform_model(corpus, tmp_path):
    for kind in ("hgrn_bit", "transformer"):
        trainer = Trainer(recipe(kind=kind), corpus, tmp_path / kind, "cpu")
        with torch.no_grad():
            trainer.model.lm_head.weight.zero_()
        text = trainer.valid
        tokens = len(encode_cached(trainer.tokenizer, text, trainer.work))
        value = bits_per_byte(trainer.model.eval(), trainer.tokenizer, text, tmp_path, 16)
        assert value == pytest.approx((tokens - 1) * np.log2(136) / len(text), rel=1e-5)


def test_recipes_of_the_package_are_valid_and_errors_name_the_entry(tmp_path):
    assert {"tiny", "small", "base", "nano"} <= set(names())
    for name in names():
        chosen = load_recipe(name)
        assert Recipe.from_dict(chosen.to_dict(), name) == chosen
    with pytest.raises(TritapeError, match=r"nothing: recipe must be a file or one of base, .*, not missing"):
        load_recipe("nothing")
    good = recipe().to_dict()
    for change, message in (
        ({"model": {**MODEL, "hidden_size": "16"}}, r"recipe: model\.hidden_size must be a valid int, not '16'"),
        ({"model": {**MODEL, "width": 3}}, r"recipe: model: entry must be one of .*, not 'width'"),
        ({"model": {**MODEL, "kind": "lstm"}}, r"model\.kind must be one of hgrn_bit, transformer, not 'lstm'"),
        ({"model": {**MODEL, "dropout": 0.1}}, r"model\.dropout must be 0 for hgrn_bit, not 0\.1"),
        ({"phases": []}, r"phases must be a list of at least one, not \[\]"),
        ({"phases": [{"steps": 3, "sources": ["news"]}]}, r"source must be one of austen, .*, not 'news'"),
        ({"phases": [{"sources": ["austen"]}]}, r"recipe: phases\.steps must be given, not missing"),
        ({"optimiser": {}}, r"section must be one of model, phases, teacher, train, not 'optimiser'"),
    ):
        with pytest.raises(TritapeError, match=message):
            Recipe.from_dict({**good, **change}, "x")
    (tmp_path / "bad.toml").write_text("[model")
    with pytest.raises(TritapeError, match=r"bad\.toml: recipe must be TOML, not damaged"):
        load_recipe(str(tmp_path / "bad.toml"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("hidden", [16, 26])  # rows of 52 bytes are not aligned for tensor cores
def test_the_captured_step_has_the_gradients_of_plain_code(corpus, tmp_path, hidden):
    trainer = Trainer(recipe(hidden_size=hidden), corpus, tmp_path, "cuda")
    assert trainer.gradient_cosine is not None
    assert trainer.gradient_cosine > 0.98
    assert trainer.train()["valid_bits_per_byte"] < 1.7


def test_command_line_trains_and_evaluates(corpus, tmp_path, monkeypatch, capsys):
    (tmp_path / "run.json").write_text(json.dumps(recipe(steps=2).to_dict()))
    common = ["--corpus", str(corpus), "--work", str(tmp_path / "work"), "--device", "cpu"]
    run_cli(monkeypatch, "train", str(tmp_path / "run.json"), *common, "--json", str(tmp_path / "out.json"))
    result = json.loads((tmp_path / "out.json").read_text())
    held = corpus / "austen.valid.txt"
    folder = str(tmp_path / "work" / "run")
    run_cli(monkeypatch, "eval", folder, str(held), "--device", "cpu", "--json", str(tmp_path / "eval.json"))
    measured = json.loads((tmp_path / "eval.json").read_text())["bits_per_byte"]
    assert measured == pytest.approx(result["valid_bits_per_byte"], rel=0.01)
    run_cli(monkeypatch, "sample", folder, "Emma was", "--tokens", "5", "--seed", "3")
    first = capsys.readouterr().out
    run_cli(monkeypatch, "sample", folder, "Emma was", "--tokens", "5", "--seed", "3")
    assert capsys.readouterr().out == first[first.index("Emma was") :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "nowhere", "nothing.txt"], "nothing.txt: text must be a file, not missing; give its path"),
        (
            ["train", "small", "--corpus", "nowhere"],
            "austen.train.txt: text must exist, not be missing; run `tritape-train",
        ),
        (["train", "small", "--device", "tpu"], "device must be auto, cpu or cuda, not 'tpu'; choose one"),
        (
            ["study", "speed", "."],
            "study must be one of scaling, precision, candidates, sparse4, not 'speed'; choose one",
        ),
        (["sample", "nowhere", "Emma"], "nowhere: checkpoint must be a folder, not missing"),
    ],
)
def test_command_line_errors_are_one_line(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run_cli(monkeypatch, *arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("tritape-train: ")
    assert message in error
    assert error.count("\n") == 1


def run_cli(monkeypatch, *arguments):
    """The command as a shell would run it; returns when it succeeds."""
    monkeypatch.setattr(sys, "argv", ["tritape-train", *arguments])
    try:
        main()
    except SystemExit as stopped:
        if stopped.code:
            raise


def test_power_law_is_found_again():
    sizes = np.array([2e5, 1e6, 4e6, 1e7])
    floor, _, exponent = fit_power(sizes, 1.2 + 40 * sizes**-0.35)
    assert floor == pytest.approx(1.2, abs=0.01)
    assert exponent == pytest.approx(0.35, abs=0.01)


@pytest.mark.parametrize("study", STUDIES)
def test_studies_have_valid_recipes(study):
    module = importlib.import_module(f"tritape.train.studies.{study}")
    for name, raw in module.recipes().items():
        assert Recipe.from_dict(raw, name).name == name
