"""Many runs on one machine: each in a process of its own, several at a time, students after their teachers.

Small models leave most of a GPU idle while they compile and while their kernels are small; side by side they use it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritape.base.files import replacing
from tritape.train.recipe import Recipe


@dataclass
class _Job:
    recipe: Recipe
    process: subprocess.Popen[bytes] | None = None
    result: dict[str, Any] | None = None
    log: Path = field(default_factory=Path)
    gpu: int = 0

    @property
    def runs(self) -> bool:
        return self.process is not None and self.result is None


def run_all(
    recipes: list[Recipe],
    corpus: Path,
    work: Path,
    device: str,
    workers: int,
    seconds: float,
    done: Callable[[str, dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Train every recipe, `workers` at a time in the given order, and return their results in that order; on `cuda` each
    run has the GPU on which the fewest others are running.

    `done(name, result)` is called as each ends. After `seconds` what still runs is stopped. A run that fails, is stopped
    or waits for a failed teacher has the result {"recipe", "error"}; the others go on.
    """
    jobs = [_Job(recipe) for recipe in recipes]
    begin = time.monotonic()
    gpus = _gpus() if device == "cuda" else 1
    try:
        while any(job.result is None for job in jobs):
            for job in jobs:
                _poll(job, work, done)
            if time.monotonic() - begin > seconds:
                for job in jobs:
                    _fail(job, "stopped at the time limit", done)
                break
            running = sum(job.runs for job in jobs)
            for job in [job for job in jobs if job.process is None and job.result is None]:
                if running < workers and _ready(job, jobs, done):
                    busy = [sum(other.runs and other.gpu == gpu for other in jobs) for gpu in range(gpus)]
                    job.gpu = busy.index(min(busy))
                    _start(job, corpus, work, device, gpus)
                    running += 1
            time.sleep(0.2)
    finally:
        for job in jobs:
            if job.process is not None and job.process.poll() is None:
                job.process.kill()
                job.process.wait()
    return [job.result for job in jobs if job.result is not None]


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _start(job: _Job, corpus: Path, work: Path, device: str, gpus: int) -> None:
    folder = work / job.recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / f"{job.recipe.name}.json"
    with replacing(recipe) as stream:
        stream.write(json.dumps(job.recipe.to_dict()).encode())
    job.log = folder / "output.txt"
    command = [sys.executable, "-m", "tritape.train.cli", "train", str(recipe), "--corpus", str(corpus)]
    command += ["--work", str(work), "--device", device]
    chosen = {"CUDA_VISIBLE_DEVICES": str(job.gpu)} if gpus > 1 else {}
    with job.log.open("wb") as stream:
        job.process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, "TERM": "dumb", **chosen}
        )


def _ready(job: _Job, jobs: list[_Job], done: Callable[[str, dict[str, Any]], None]) -> bool:
    """Whether the teachers of a job have finished; a failed teacher fails the job."""
    for name in job.recipe.teacher.recipes if job.recipe.teacher else ():
        teacher = next((other for other in jobs if other.recipe.name == name), None)
        if teacher is not None and teacher.result is None:
            return False
        if teacher is not None and "error" in (teacher.result or {}):
            _fail(job, f"teacher {name} failed", done)
            return False
    return True


def _poll(job: _Job, work: Path, done: Callable[[str, dict[str, Any]], None]) -> None:
    if job.process is None or job.result is not None or job.process.poll() is None:
        return
    result = work / job.recipe.name / "result.json"
    if job.process.returncode == 0 and result.is_file():
        job.result = json.loads(result.read_text())
        done(job.recipe.name, job.result)
    else:
        lines = job.log.read_text(errors="replace").strip().splitlines()
        _fail(job, lines[-1] if lines else "no output", done)


def _fail(job: _Job, why: str, done: Callable[[str, dict[str, Any]], None]) -> None:
    if job.result is None:
        job.result = {"recipe": job.recipe.name, "error": why}
        done(job.recipe.name, job.result)
