"""One training run: recipe and corpus in, checkpoint, log and loss curve out.

The run's folder holds `log.jsonl` (a line every `LOG_EVERY` steps), `state.safetensors` (everything to resume from),
`loss.png`, `result.json`, and at the end the checkpoint of a ternary `hgrn_bit`: config.json, model.safetensors and
tokenizer.json. On a GPU the step (forward, backward and optimiser, under bfloat16 autocast) is compiled and captured in
one CUDA graph, after a check of its gradients; under torchrun each rank takes its share of every batch and gradients are
averaged. A run is a function of recipe, corpus and seed; on the CPU bit for bit, resumed or not.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.json_text import json_text
from tritape.train.batches import Crops
from tritape.train.data.own import is_own, own_text
from tritape.train.evaluate import bits_per_byte
from tritape.train.model import HGRNBitForCausalLM, load_model
from tritape.train.optimiser import Optimiser
from tritape.train.plain import at_least_float32
from tritape.train.precision import Residual, set_precision, set_residual
from tritape.train.recipe import ModelRecipe, Recipe
from tritape.train.release import release
from tritape.train.tokenize import encode_cached, save_tokenizer, train_tokenizer
from tritape.train.transformer import Transformer

LOG_EVERY = 50
SAVE_SECONDS = 60.0
"""Seconds between two saved states."""
EVALUATIONS = 4
"""Times that a run measures the validation text, the last at its end."""
RELEASED = ("ternary", "sparse4")
"""Precisions whose models become checkpoints: their weights are ternary."""
MIN_COSINE = 0.98
"""Least cosine between the gradients of compiled and plain code; int8 roundings that flip cost about 0.001."""

Progress = Callable[[int, int, float], None]
"""Called with (steps done, steps, training loss in nats)."""


LanguageModel = HGRNBitForCausalLM | Transformer


def build_model(recipe: ModelRecipe, seed: int) -> LanguageModel:
    """A freshly initialised model; equal seeds give equal weights."""
    torch.manual_seed(seed)
    if recipe.kind == "transformer":
        return Transformer(recipe.config, recipe.dropout)
    model = HGRNBitForCausalLM(recipe.config)
    if recipe.shared_gain:
        for block in model.blocks():
            block.attn.f_proj.norm = block.attn.g_proj.norm = block.attn.i_proj.norm
    if recipe.precision != "ternary":
        set_precision(model, recipe.precision)
    return model


def load_run(recipe: Recipe, folder: Path) -> LanguageModel:
    """The model of a run from its saved state, in evaluation mode. Raises TritapeError when there is none."""
    path = folder / "state.safetensors"
    if not path.is_file():
        raise TritapeError(f"{path}: run must have a saved state, not be missing; train recipe {recipe.name} first")
    model = build_model(recipe.model, recipe.train.seed)
    model.load_state_dict(_part(load_file(path), "model."))
    return model.eval()


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine from the recipe's rate to zero at the last step."""
    warmup = min(recipe.train.warmup, recipe.steps // 2)
    if step < warmup:
        return recipe.train.learning_rate * (step + 1) / warmup
    return recipe.train.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (recipe.steps - warmup)))


def residual_factor(step: int, recipe: Recipe) -> float:
    """The factor of the residual in a step: from the recipe's to zero, which it reaches at `residual_share` of the steps."""
    done = min(step / (recipe.train.residual_share * recipe.steps), 1.0)
    left = 1 - done if recipe.train.residual_curve == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return recipe.train.residual * left


def prepare(recipe: Recipe, corpus: Path, work: Path) -> tuple[Path, dict[str, np.ndarray], str]:
    """(tokenizer file, ids by source, validation text of the last phase), made or taken from the folder `work`."""
    texts = {name: read_text(corpus, name, "train") for name in recipe.sources}
    tokenizer = work / recipe.tokenizer_name
    if not tokenizer.exists():
        work.mkdir(parents=True, exist_ok=True)
        last = [texts[name] for name in sorted(recipe.phases[-1].sources)]
        save_tokenizer(train_tokenizer(last, recipe.model.vocab_size), tokenizer)
    ids = {name: encode_cached(tokenizer, text, work) for name, text in texts.items()}
    return tokenizer, ids, "".join(read_text(corpus, name, "valid") for name in recipe.phases[-1].sources)


class Trainer:
    """A run in progress. `work` holds the runs' folders (`work`/NAME), tokenizers and encoded texts.

    Raises TritapeError for a missing corpus, a missing teacher or a saved state of another recipe.
    """

    def __init__(self, recipe: Recipe, corpus: Path, work: Path, device: str) -> None:
        self.recipe, self.work, self.folder = recipe, work, work / recipe.name
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device == "cuda" else "gloo")
        self.device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device)
        if device == "cuda":
            torch.cuda.set_device(self.device)
        if recipe.train.batch % self.world:
            raise TritapeError(
                f"recipe {recipe.name}: batch must divide by {self.world} processes, not be {recipe.train.batch}; change it"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer, ids, self.valid = prepare(recipe, corpus, work)
        self.streams = []
        for phase in recipe.phases:
            tokens = np.concatenate([ids[name] for name in phase.sources])
            crops = Crops(len(tokens), recipe.train.sequence, recipe.train.batch, recipe.train.seed)
            self.streams.append((crops, torch.from_numpy(tokens.astype(np.int32)).to(self.device)))
        self.model = build_model(recipe.model, recipe.train.seed).to(self.device)
        self._residual = torch.zeros((), device=self.device)
        if recipe.train.residual:
            set_residual(self.model, self._residual, cast(Residual, recipe.train.residual_kind))
        self.teachers = [self._teacher(name) for name in recipe.teacher.recipes] if recipe.teacher else []
        self.optimiser = Optimiser(self.model, recipe.train.weight_decay, recipe.train.muon)
        self.step = 0
        self.log: list[dict[str, float]] = []
        share = recipe.train.batch // self.world
        self._ids = torch.zeros(share, recipe.train.sequence + 1, dtype=torch.int64, device=self.device)
        self._loss = torch.zeros((), device=self.device)
        self.gradient_cosine: float | None = None
        self._run = self._captured() if device == "cuda" and self.world == 1 else self._update
        self._resume()

    @property
    def parameters(self) -> int:
        """Parameters of the model, embedding included."""
        return sum(p.numel() for p in self.model.parameters())

    def train(self, progress: Progress | None = None, stop_at: int | None = None) -> dict[str, Any]:
        """Run to the end (or to step `stop_at`, leaving a state to resume from) and return `result.json`'s content."""
        recipe, begin, saved = self.recipe, time.perf_counter(), time.perf_counter()
        first, stop = self.step, min(recipe.steps, stop_at or recipe.steps)
        self.model.train()
        while self.step < stop:
            self._fill(self.step)
            self._run()
            self.step += 1
            if self.step % LOG_EVERY == 0 or self.step == recipe.steps:
                before = (self.step - LOG_EVERY) * EVALUATIONS // recipe.steps
                measure = before < self.step * EVALUATIONS // recipe.steps and self.step < recipe.steps
                self._record(begin, first, progress, measure)
            if time.perf_counter() - saved > SAVE_SECONDS:
                self.save()
                saved = time.perf_counter()
        result: dict[str, Any] = {}
        if self.step == recipe.steps and self.rank == 0:
            result = self._result(time.perf_counter() - begin, first)
            self.log[-1]["valid_bits_per_byte"] = result["valid_bits_per_byte"]
        self.save()
        if result:
            self._finish(result)
        return result

    def evaluate(self, model: LanguageModel | None = None) -> float:
        """Bits per byte of the validation text under `model`, the one in training unless given."""
        model = model or self.model
        model.eval()
        value = bits_per_byte(model, self.tokenizer, self.valid, self.work, self.recipe.train.sequence)
        model.train()
        return value

    def save(self) -> None:
        """Write the state to resume from."""
        if self.rank:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"optimiser.{name}": value for name, value in self.optimiser.state().items()}
        cpu = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        note = {"step": str(self.step), "recipe": json.dumps(self.recipe.to_dict()), "log": json.dumps(self.log)}
        with replacing(self.folder / "state.safetensors") as stream:
            stream.write(save(cpu, note))

    def _resume(self) -> None:
        path = self.folder / "state.safetensors"
        if not path.is_file():
            return
        note = json.loads(_header(path))["__metadata__"]
        saved = Recipe.from_dict(json.loads(note["recipe"]), self.recipe.name, str(path))  # entries may have been added
        if saved != self.recipe:
            raise TritapeError(
                f"{path}: state must be of this recipe, not of an older {self.recipe.name}; delete the run's folder"
            )
        tensors = load_file(path)
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                value.copy_(tensors[f"model.{name}"])
        self.optimiser.load_state(_part(tensors, "optimiser."))
        self.step, self.log = int(note["step"]), json.loads(note["log"])

    def _teacher(self, name: str) -> LanguageModel:
        folder = self.work / name
        path = folder / "recipe.json"
        if not path.is_file():
            raise TritapeError(f"{path}: teacher must be a finished run, not missing; train recipe {name} first")
        recipe = Recipe.from_dict(json.loads(path.read_text()), name, str(path))
        if recipe.tokenizer_name != self.recipe.tokenizer_name:
            raise TritapeError(
                f"recipe {self.recipe.name}: teacher must use {self.recipe.tokenizer_name}, not "
                f"{recipe.tokenizer_name}; give both the same vocabulary and sources"
            )
        return load_run(recipe, folder).to(self.device).requires_grad_(False)

    def _fill(self, step: int) -> None:
        """Put the sequences of a step, its learning rate and residual where the step reads them."""
        at = 0
        for (crops, tokens), phase in zip(self.streams, self.recipe.phases):
            if step < at + phase.steps:
                starts = crops.starts(step - at)[self.rank :: self.world]
                places = torch.from_numpy(starts).to(self.device)[:, None] + torch.arange(
                    self._ids.shape[1], device=self.device
                )
                self._ids.copy_(tokens[places])
                break
            at += phase.steps
        self.optimiser.learning_rate.fill_(learning_rate(step, self.recipe))
        self._residual.fill_(residual_factor(step, self.recipe))

    def objective(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats against the next token, the teachers' distribution mixed in."""
        if self.recipe.teacher is None:
            return self.model.loss(ids, targets)
        log_p = F.log_softmax(at_least_float32(self.model(ids)), dim=-1)
        with torch.no_grad():
            soft = torch.stack([at_least_float32(t(ids)).softmax(-1) for t in self.teachers]).mean(0)
        weight = self.recipe.teacher.weight
        hard = -log_p.gather(-1, targets[..., None]).mean()
        return (1 - weight) * hard - weight * (soft * log_p).sum(-1).mean()

    def _update(self, objective: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        """One step on `_ids`: the same code on a CPU, under torchrun and inside a CUDA graph."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = (objective or self.objective)(self._ids[:, :-1], self._ids[:, 1:])
        for parameter in self.optimiser.parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()
        loss.backward()
        if self.world > 1:
            for parameter in self.optimiser.parameters:
                assert parameter.grad is not None
                dist.all_reduce(parameter.grad)
                parameter.grad.div_(self.world)
        self.optimiser.step()
        self._loss.copy_(loss.detach())

    def _captured(self) -> Callable[[], None]:
        """`_update` captured in a CUDA graph, compiled when that gives the right gradients.

        Compiled code is checked against plain code on the first batch, because one compiler (PyTorch 2.11) was seen to
        train models of unaligned width with wrong gradients; padding of matrices, the likely cause, is off.
        """
        plain = self._gradients(self._capture(None))
        compiled = self._capture(torch.compile(self.objective, dynamic=False, options={"shape_padding": False}))
        self.gradient_cosine = float(F.cosine_similarity(plain, self._gradients(compiled), dim=0))
        trusted = self.recipe.model.dropout > 0 or self.gradient_cosine > MIN_COSINE
        return compiled if trusted else self._capture(None)

    def _capture(self, objective: Callable[[Tensor, Tensor], Tensor] | None) -> Callable[[], None]:
        """One step as a graph; the warm-up leaves weights and optimiser as they were."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        stream = torch.cuda.Stream()
        self.model.train()
        self._fill(0)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._update(objective)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._update(objective)
        self._restore(before)
        return graph.replay

    def _gradients(self, run: Callable[[], None]) -> Tensor:
        """All gradients of the first batch as one vector, as a captured step leaves them."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._fill(0)
        run()
        vector = torch.cat([p.grad.flatten().float() for p in self.optimiser.parameters if p.grad is not None])
        self._restore(before)
        return vector

    @torch.no_grad()
    def _restore(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.model.state_dict().items():
            value.copy_(weights[name])
        for value in self.optimiser.state().values():
            value.zero_()

    def _record(self, begin: float, first: int, progress: Progress | None, measure: bool) -> None:
        loss = self._loss.clone()
        if self.world > 1:
            dist.all_reduce(loss)
            loss /= self.world
        value = float(loss)
        if not math.isfinite(value):
            raise TritapeError(
                f"recipe {self.recipe.name}: loss must be finite, not {value} at step {self.step}; lower learning_rate"
            )
        seconds = time.perf_counter() - begin
        self.log.append(
            {
                "step": self.step,
                "loss": value,
                "learning_rate": learning_rate(self.step - 1, self.recipe),
                "tokens_per_second": (self.step - first) * self._tokens_a_step / seconds,
            }
        )
        if measure:
            self.log[-1]["valid_bits_per_byte"] = self.evaluate()
        if self.rank == 0:
            with (self.folder / "log.jsonl").open("w" if len(self.log) == 1 else "a") as stream:
                stream.write(json.dumps(self.log[-1]) + "\n")
        if progress is not None:
            progress(self.step, self.recipe.steps, value)

    @property
    def _tokens_a_step(self) -> int:
        return self.recipe.train.batch * self.recipe.train.sequence

    def _result(self, seconds: float, first: int) -> dict[str, Any]:
        """What the run came to, measured on the released checkpoint where there is one."""
        model = self.model
        if self.recipe.model.kind == "hgrn_bit" and self.recipe.model.precision in RELEASED:
            assert isinstance(model, HGRNBitForCausalLM)
            release(model, self.tokenizer, self.folder)
            model = load_model(self.folder).to(self.device)
        value = self.evaluate(model)
        curve = [(row["step"], row["valid_bits_per_byte"]) for row in self.log if "valid_bits_per_byte" in row]
        gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return {
            "recipe": self.recipe.name,
            "parameters": self.parameters,
            "valid_bits_per_byte": value,
            "curve": [*curve, (self.step, value)],
            "last_loss": self.log[-1]["loss"],
            "tokens": self.recipe.steps * self._tokens_a_step,
            "epochs": [
                phase.steps * self._tokens_a_step / crops.tokens
                for phase, (crops, _) in zip(self.recipe.phases, self.streams)
            ],
            "seconds": seconds,
            "tokens_per_second": (self.recipe.steps - first) * self._tokens_a_step / seconds,
            "device": gpu,
            "gradient_cosine": self.gradient_cosine,
            "torch": torch.__version__,
        }

    def _finish(self, result: dict[str, Any]) -> None:
        from tritape.train.plots import plot_losses

        for name, value in (("recipe.json", self.recipe.to_dict()), ("result.json", result)):
            with replacing(self.folder / name) as stream:
                stream.write((json_text(value, 1) + "\n").encode())
        plot_losses(self.log, self.recipe.name, self.folder / "loss.png")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _header(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(int.from_bytes(stream.read(8), "little"))


def read_text(corpus: Path, name: str, part: str) -> str:
    """Text `name`.`part` of a fetched corpus, or that part of a text file. Raises TritapeError if it is not there."""
    if is_own(name):
        return str(getattr(own_text(Path(name)), part))
    path = corpus / f"{name}.{part}.txt"
    if not path.is_file():
        raise TritapeError(f"{path}: text must exist, not be missing; run `tritape-train fetch` first")
    return path.read_text()
