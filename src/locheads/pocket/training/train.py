"""Trains the pocket LVLM: `python -m locheads.pocket.training.train --out DIR`. Only words are supervised.

Everything follows from `--seed` and the step's number, so a resumed run continues as if it had not stopped.
"""

import argparse
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration

from locheads.errors import ConfigError, LocHeadsError, print_error
from locheads.pocket.language import KINDS, QUESTION
from locheads.pocket.pocket_model import build_model, export
from locheads.pocket.training.batches import LEVELS, PATCHES, Batch, Level, Progress, make_batch
from locheads.pocket.training.forward import ATTENTION, answer_logits, keep_patches, word_loss
from locheads.pocket.training.looking import cost, mean_sums
from locheads.pocket.training.probe import accuracies, first_words
from locheads.store.atomic import replacing


def plot_curves(folder: Path) -> None:
    """Losses left, shares of right answers right; a dotted line where a harder level begins."""
    curves = pd.read_csv(folder / "curves.csv")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, shares = figure.subplots(1, 2)
    for axes, names, ylabel, top in (
        (losses, ["word_loss", "loss"], "loss", 3),
        (shares, ["first_word", *KINDS, QUESTION], "share right on training scenes", 1),
    ):
        axes.plot(curves["step"], curves[names], label=[name.replace("_", " ") for name in names])
        axes.set(xlabel="step", ylabel=ylabel, ylim=(0, top))
        axes.legend()
        for step in curves["step"][curves["level"].diff() > 0]:
            axes.axvline(step, color="0.7", linewidth=0.8, linestyle=":")
    figure.savefig(folder / "curves.png", dpi=110)


FIRST_WORD_WEIGHT = 2.0  # of the loss: the first answer word is the one that the paper's query position predicts
WORD_SCENES = 16  # images per step of the first stage
DECAY = 0.35  # of a stage: the last part, over which the learning rate falls to 0
MUON_FACTOR = 3.0  # of its learning rate over AdamW's
CHANGED = ("facts", "image_cost")  # options that change the levels
_WINDOW = 50  # steps per line of curves.csv
_MEASURED = ("lr", "word_loss", "loss", "first_word", "other_words", *KINDS, QUESTION, "image_sums")
"""Columns of curves.csv behind step, seconds and level."""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m locheads.pocket.training.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curves.csv, curves.png, export/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--words", type=int, default=400, help="steps of the first stage, see locheads.pocket.training.forward"
    )
    parser.add_argument("--steps", type=int, default=3400, help="steps of the second stage, that learns to answer")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this time, with a checkpoint")
    parser.add_argument("--stop-at", type=int, help="stop at this step of both stages together, with a checkpoint")
    parser.add_argument("--scenes", type=int, default=6, help="images per step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--save-minutes", type=float, default=4)
    parser.add_argument("--facts", type=_share, help="share of facts, in place of that of every level that asks some")
    parser.add_argument("--image-cost", type=_cost, help="in place of that of every level on which looking costs")
    return parser.parse_args(argv)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: give 0 to 1")
    return value


def _cost(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


class Trainer:
    """Model, optimiser and progress of one run."""

    def __init__(self, arguments: argparse.Namespace, model: LlavaForConditionalGeneration | None = None) -> None:
        self.arguments, self.progress = arguments, Progress()
        self.model = (model or build_model(arguments.seed)).to(arguments.device).train()
        self.model.set_attn_implementation(ATTENTION)
        self.optimisers = build_optimisers(self.model, arguments.lr)

    def step(self) -> dict[str, float]:
        """One optimiser step. Returns loss and accuracies (absent where a kind did not occur)."""
        if self.progress.words < self.arguments.words:
            return self._learn_words()
        loss, record = self._answers()
        rate = self._set_rate(self.progress.step / self.arguments.steps)
        self._descend(loss)
        self.progress.update(record["first_word"])
        return record | {"lr": rate, "loss": loss.item()}

    def _learn_words(self) -> dict[str, float]:
        arguments, step = self.arguments, self.progress.words
        loss = word_loss(self.model, arguments.seed, step, WORD_SCENES, arguments.device)
        rate = self._set_rate(step / arguments.words)
        self._descend(loss)
        self.progress.words += 1
        return {"lr": rate, "word_loss": loss.item()}

    def _answers(self) -> tuple[torch.Tensor, dict[str, float]]:
        arguments, step = self.arguments, self.progress.step
        level = self._level()
        draw = np.random.default_rng([arguments.seed, step, 5])
        full = draw.random() < level.full
        generator = torch.Generator().manual_seed(int(draw.integers(2**40)))
        count = PATCHES if full else int(draw.choice(level.keep))
        scenes = max(1, arguments.scenes // 3) if full else arguments.scenes
        batch = to_device(make_batch(level, scenes, arguments.seed, step), arguments.device)
        kept = keep_patches(scenes, count, generator).to(arguments.device)
        with torch.autocast(arguments.device, torch.bfloat16):
            image_sums: list[torch.Tensor] = []
            logits, targets = answer_logits(self.model, batch, kept, image_sums)
        weights = 1 + (FIRST_WORD_WEIGHT - 1) * first_words(batch).float()
        loss = (cross_entropy(logits.float(), targets, reduction="none") * weights).sum() / weights.sum()
        sums = mean_sums(image_sums, batch)
        record = accuracies(logits.argmax(1) == targets, batch) | {"image_sums": sums.sum().item()}
        return loss + level.image_cost * cost(sums), record

    def _level(self) -> Level:
        level = LEVELS[self.progress.level]
        changed = {name: getattr(self.arguments, name) for name in CHANGED if getattr(level, name)}
        return replace(level, **{name: value for name, value in changed.items() if value is not None})

    def _descend(self, loss: torch.Tensor) -> None:
        self.model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()

    def _set_rate(self, done: float) -> float:
        """Up over the first part of a stage, down over the last third; `done` is the share of the stage done."""
        rate = self.arguments.lr * min(1.0, (done + 1e-3) * 20, (1 - done) / DECAY)
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
        with replacing(out / "checkpoint.pt") as temporary:
            torch.save(state, temporary)
        export(self.model, out / "export")

    def restore(self) -> None:
        """Continues from the checkpoint. Raises ConfigError where that was made with other options."""
        state = torch.load(self.arguments.out / "checkpoint.pt", map_location=self.arguments.device, weights_only=True)
        for name in CHANGED:
            now, then = str(getattr(self.arguments, name)), state["arguments"][name]
            if now != then:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"The checkpoint was trained with {option} {then}, not {now}: resume it as it began.")
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        _cut_curves(self.arguments.out / "curves.csv", self.progress.done)


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
    fields = ("pixels", "tokens", "targets")
    return replace(batch, **{name: getattr(batch, name).to(device) for name in fields})


def run(trainer: Trainer) -> None:
    """Trains to the last step or minute; writes curves, checkpoints and progress lines on the way."""
    arguments, progress = trainer.arguments, trainer.progress
    arguments.out.mkdir(parents=True, exist_ok=True)
    window: list[dict[str, float]] = []
    begun = clock = saved = time.monotonic()
    total = arguments.words + arguments.steps
    last = total if arguments.stop_at is None else min(arguments.stop_at, total)
    while progress.done < last and clock - begun < arguments.minutes * 60:
        window.append(trainer.step())
        progress.seconds += time.monotonic() - clock
        clock = time.monotonic()
        if len(window) < _WINDOW and progress.done < last:
            continue
        _report(trainer, window)
        window = []
        if clock - saved > arguments.save_minutes * 60:
            trainer.save()
            saved = clock
    if window:  # the time was up
        _report(trainer, window)
    trainer.save()
    plot_curves(arguments.out)


def _cut_curves(path: Path, step: int) -> None:
    """Removes the lines after `step`: steps that ran after the last checkpoint run again."""
    if path.exists():
        head, *lines = path.read_text().splitlines(keepends=True)
        path.write_text(head + "".join(line for line in lines if int(line.split(",")[0]) <= step))


def _report(trainer: Trainer, window: list[dict[str, float]]) -> None:
    progress, arguments = trainer.progress, trainer.arguments
    means = pd.DataFrame(window).reindex(columns=_MEASURED).mean()
    path = arguments.out / "curves.csv"
    row = {"step": progress.done, "seconds": round(progress.seconds), "level": progress.level, **means}
    pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.5g", na_rep="nan")
    total = arguments.words + arguments.steps
    left = progress.seconds / progress.done * (total - progress.done) / 60
    shown = " ".join(f"{name} {value:.3f}" for name, value in means.drop("lr").dropna().items())
    print(f"step {progress.done}/{total} level {progress.level} {shown} | {left:.0f} min left", flush=True)


def main() -> int:
    """Entry point."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    try:
        trainer = Trainer(arguments)
        if arguments.resume:
            trainer.restore()
    except LocHeadsError as error:
        return print_error(error)
    run(trainer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
