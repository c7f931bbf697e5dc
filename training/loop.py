"""What every training run does around its steps: pace, progress, log, checkpoints, the end."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

SAVE_SECONDS = 180.0
SHOW_EVERY = 10


class Trained(Protocol):
    """A run: its networks, its data and how far it is."""

    step: int

    def advance(self, steps: int) -> dict[str, float]:
        """Take one of `steps` steps and return its figures."""
        ...

    def validate(self) -> dict[str, float]:
        """Return figures on people that are not trained on."""
        ...

    def save(self) -> None:
        """Write a checkpoint in place of the last."""
        ...


def rate_at(step: int, steps: int, highest: float, lowest: float, warm_up: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine from `highest` to `lowest`."""
    if step < warm_up:
        return highest * (step + 1) / warm_up
    share = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return lowest + (highest - lowest) * 0.5 * (1 + float(np.cos(np.pi * share)))


Weights = dict[str, Tensor]


@torch.no_grad()
def follow(average: Weights, model: nn.Module, step: int, most: float) -> None:
    """Move averaged weights towards a model's; they keep `most` of themselves a step, less at
    first."""
    decay = min(most, (1 + step) / (10 + step))
    for name, value in model.state_dict().items():
        average[name].lerp_(value, 1 - decay)


@contextmanager
def averaged(model: nn.Module, average: Weights) -> Iterator[None]:
    """Give a model its averaged weights for a while."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(average)
    try:
        yield
    finally:
        model.load_state_dict(own)


def keep(run: Path, networks: dict[str, Weights], header: dict[str, str], whole: object) -> None:
    """Write averaged weights to `<network>.safetensors` and everything else to `last.pt`, in place
    of the last."""
    run.mkdir(parents=True, exist_ok=True)
    for name, weights in networks.items():
        save_file(weights, run / f"{name}.tmp", header)
    torch.save(whole, run / "last.tmp")
    for name in networks:
        os.replace(run / f"{name}.tmp", run / f"{name}.safetensors")
    os.replace(run / "last.tmp", run / "last.pt")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a network learns: `rate_at`'s rates and warm-up, decay of the weights, and what
    their running average keeps of itself in a step."""

    highest: float
    lowest: float
    warm_up: int
    decay: float
    average: float
    clip_norm: float = 2.0


class OneNetwork:
    """A run that trains one network: its weights and their average, optimiser and checkpoints.

    others: parameters that are trained beside it and needed by nobody later. fixed: what is written
    beside its weights and never trained.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        run: Path,
        pace: Pace,
        others: dict[str, nn.Parameter] | None = None,
        fixed: Weights | None = None,
    ) -> None:
        self.name, self.model, self.run, self.pace = name, model, run, pace
        self.others, self.fixed = others or {}, fixed or {}
        self.average = {key: value.clone() for key, value in model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            [*model.parameters(), *self.others.values()],
            lr=pace.highest,
            betas=(0.9, 0.95),
            weight_decay=pace.decay,
        )
        self.step = 0

    def descend(self, loss: Tensor, steps: int) -> float:
        """Take one of `steps` steps down a loss and return the gradient's norm."""
        pace = self.pace
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, steps, pace.highest, pace.lowest, pace.warm_up)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), pace.clip_norm)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
        self.step += 1
        follow(self.average, self.model, self.step, pace.average)
        return float(norm)

    def save(self) -> None:
        """Write averaged weights, weights and optimiser in place of the last checkpoint."""
        full = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        beside = {key: value.data for key, value in self.others.items()}
        written = {self.name: self.average | self.fixed}
        keep(self.run, written, {"step": str(self.step)}, full | beside)

    def resume(self, start: Path | None = None) -> None:
        """Continue from the run's checkpoint, or begin with weights of another (safetensors)."""
        last = self.run / "last.pt"
        if last.exists():
            full = torch.load(last, weights_only=True)
            self.model.load_state_dict(full["model"])
            for key, value in self.others.items():
                value.data.copy_(full[key])
            self.optimiser.load_state_dict(full["optimiser"])
            self.average, self.step = full["average"], full["step"]
        elif start is not None:
            held = load_file(start)
            self.average = {name: held[name] for name in self.average}
            self.model.load_state_dict(self.average)


def fresh_seed() -> int:
    """Return a seed by the clock: a resumed run must not hear its first batches again."""
    return int(time.time()) % 100_000


@contextmanager
def told_to_stop() -> Iterator[list[int]]:
    """Collect the first SIGINT (Ctrl-C) or SIGTERM; a second one ends the process as usual."""
    told: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def stop(number: int, _: object) -> None:
        told.append(number)
        restore()

    for number in usual:
        signal.signal(number, stop)
    try:
        yield told
    finally:
        restore()


def train(trainer: Trained, steps: int, folder: Path, validate_every: int) -> bool:
    """Step until `steps` are done or Ctrl-C or SIGTERM comes; return whether they are done.

    Progress on the terminal and in `folder/log.jsonl`, a checkpoint every three minutes and at the
    end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    recent: dict[str, float] = {}
    saved = begun = time.monotonic()
    first = trainer.step
    with told_to_stop() as stopping:
        while trainer.step < steps and not stopping:
            for name, value in trainer.advance(steps).items():
                recent[name] = recent.get(name, value) * 0.97 + value * 0.03
            left = (steps - trainer.step) * (time.monotonic() - begun) / (trainer.step - first)
            if trainer.step % SHOW_EVERY == 0:
                shown = "  ".join(f"{name} {value:.3f}" for name, value in recent.items())
                console.print(f"{trainer.step:>6}/{steps}  {shown}  end in {left / 60:.0f} min")
            if trainer.step % validate_every == 0:
                line = {"step": trainer.step, "cpu": time.process_time()} | recent
                line |= trainer.validate()
                with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
                    log.write(json.dumps({k: round(v, 4) for k, v in line.items()}) + "\n")
                console.print(line)
            if time.monotonic() - saved > SAVE_SECONDS:
                trainer.save()
                saved = time.monotonic()
        trainer.save()
    finished = trainer.step >= steps
    after = "" if finished else "; started again, it goes on from there"
    console.print(f"{trainer.step} of {steps} steps are in {folder}{after}")
    return finished
