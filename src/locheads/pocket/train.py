"""Trains the pocket LVLM from scratch: `python -m locheads.pocket.train --out DIR`. Only words are supervised.

Everything follows from `--seed` and the step's number, so a resumed run continues as if it had not stopped.
"""

import argparse
import csv
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration

from locheads.pocket.answers import accuracies, first_words
from locheads.pocket.batches import PATCHES, Batch, make_batch
from locheads.pocket.curriculum import LEVELS, Progress, task_of
from locheads.pocket.forward import answer_logits, keep_patches
from locheads.pocket.language import KINDS, QUESTION
from locheads.pocket.model import build_model, export

FIRST_WORD_WEIGHT = 2.0  # of the loss: the first answer word is the one that the paper's query position predicts
MUON_FACTOR = 3.0  # of its learning rate over AdamW's
_WINDOW = 50  # steps per line of curves.csv
_COLUMNS = ("step", "seconds", "level", "lr", "loss", "first_word", "other_words", *KINDS, QUESTION)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m locheads.pocket.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curves.csv and export/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4600)
    parser.add_argument("--decay", type=int, default=1000, help="last steps, over which the learning rate falls to 0")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this time, with a checkpoint")
    parser.add_argument("--stop-at", type=int, help="stop at this step, with a checkpoint (default: --steps)")
    parser.add_argument("--scenes", type=int, default=8, help="pictures per step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--save-minutes", type=float, default=4)
    return parser.parse_args(argv)


class Trainer:
    """Model, optimiser and progress of one run."""

    def __init__(self, arguments: argparse.Namespace, model: LlavaForConditionalGeneration | None = None) -> None:
        self.arguments, self.progress = arguments, Progress()
        self.model = (model or build_model(arguments.seed)).to(arguments.device).train()
        self.model.set_attn_implementation("pocket_float32")
        self.optimisers = build_optimisers(self.model, arguments.lr)

    def step(self) -> dict[str, float]:
        """One optimiser step. Returns loss and accuracies (nan where a kind did not occur)."""
        arguments, step = self.arguments, self.progress.step
        level = LEVELS[self.progress.level]
        draw = np.random.default_rng([arguments.seed, step, 5])
        full = draw.random() < level.full
        generator = torch.Generator().manual_seed(int(draw.integers(2**40)))
        count = PATCHES if full else int(draw.choice(level.keep))
        palette = level.palettes[draw.integers(len(level.palettes))]
        focus = level.focus[draw.integers(len(level.focus))]
        scenes = max(1, arguments.scenes // 3) if full else arguments.scenes
        task = task_of(self.progress.level, scenes, palette, focus)
        batch = to_device(make_batch(task, arguments.seed, step), arguments.device)
        kept = keep_patches(task.scenes, count, generator).to(arguments.device)
        with torch.autocast(arguments.device, torch.bfloat16):
            logits, targets = answer_logits(self.model, batch, kept)
        weights = 1 + (FIRST_WORD_WEIGHT - 1) * first_words(batch).float()
        loss = (cross_entropy(logits.float(), targets, reduction="none") * weights).sum() / weights.sum()
        rate = self._set_rate(step)
        self.model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        record = {"lr": rate, "loss": loss.item(), **accuracies(logits.argmax(1) == targets, batch)}
        self.progress.update(record["first_word"])
        return record

    def _set_rate(self, step: int) -> float:
        arguments = self.arguments
        rate = arguments.lr * min(1.0, (step + 1) / 200, (arguments.steps - step) / max(1, arguments.decay))
        for optimiser, factor in zip(self.optimisers, (MUON_FACTOR, 1.0), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        return rate

    def save(self) -> None:
        """Writes the checkpoint and the stock export, each under a temporary name first."""
        out = self.arguments.out
        state = {
            "model": self.model.state_dict(), "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "progress": asdict(self.progress), "arguments": {k: str(v) for k, v in vars(self.arguments).items()},
        }  # fmt: skip
        torch.save(state, out / "checkpoint.tmp")
        os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")
        export(self.model, out / "export")

    def restore(self) -> None:
        """Continues from the checkpoint."""
        state = torch.load(self.arguments.out / "checkpoint.pt", map_location=self.arguments.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        _cut_curves(self.arguments.out / "curves.csv", self.progress.step)


def build_optimisers(model: LlavaForConditionalGeneration, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside of the layers and the projector, AdamW for embeddings, norms and the output."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = (".layers." in name or "multi_modal_projector" in name) and parameter.ndim == 2
        (matrices if inner else others).append(parameter)
    return [
        torch.optim.Muon(matrices, rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    ]


def to_device(batch: Batch, device: str) -> Batch:
    """The batch with its tensors on `device`."""
    fields = ("pixels", "tokens", "segments", "positions", "targets")
    return replace(batch, **{name: getattr(batch, name).to(device) for name in fields})


def run(trainer: Trainer) -> None:
    """Trains to the last step or minute; writes curves, checkpoints and progress lines on the way."""
    arguments, progress = trainer.arguments, trainer.progress
    arguments.out.mkdir(parents=True, exist_ok=True)
    window: list[dict[str, float]] = []
    begun = clock = saved = time.monotonic()
    last = arguments.steps if arguments.stop_at is None else min(arguments.stop_at, arguments.steps)
    while progress.step < last and clock - begun < arguments.minutes * 60:
        window.append(trainer.step())
        progress.seconds += time.monotonic() - clock
        clock = time.monotonic()
        if len(window) < _WINDOW and progress.step < last:
            continue
        _report(trainer, window)
        window = []
        if clock - saved > arguments.save_minutes * 60:
            trainer.save()
            saved = clock
    trainer.save()


def _cut_curves(path: Path, step: int) -> None:
    """Removes the lines after `step`: steps that ran after the last checkpoint run again."""
    if path.exists():
        head, *lines = path.read_text().splitlines(keepends=True)
        path.write_text(head + "".join(line for line in lines if int(line.split(",")[0]) <= step))


def _report(trainer: Trainer, window: list[dict[str, float]]) -> None:
    progress, arguments = trainer.progress, trainer.arguments
    table = np.array([[record[name] for name in _COLUMNS[3:]] for record in window])
    known = ~np.isnan(table)
    means = np.where(known.any(0), np.where(known, table, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
    path = arguments.out / "curves.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(_COLUMNS)
        writer.writerow([progress.step, round(progress.seconds), progress.level, *(f"{value:.5g}" for value in means)])
    left = progress.seconds / progress.step * (arguments.steps - progress.step) / 60
    shown = " ".join(f"{name} {value:.3f}" for name, value in zip(_COLUMNS[4:], means[1:], strict=True))
    print(f"step {progress.step}/{arguments.steps} level {progress.level} {shown} | {left:.0f} min left", flush=True)


def main() -> None:
    """Entry point."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    trainer = Trainer(arguments)
    if arguments.resume:
        trainer.restore()
    run(trainer)


if __name__ == "__main__":
    main()
