"""How well a pocket model answers and localizes on held-out scenes: `python -m locheads.pocket.probe DIR`.

The ground truth serves the measure only. Maps are those of the prompt's last token, at full density, without drop.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from locheads.models.capture import install, recording
from locheads.pocket.answers import accuracies
from locheads.pocket.batches import PATCHES, PREFIX, Batch, normalise, pack
from locheads.pocket.dataset import split_scenes
from locheads.pocket.forward import answer_logits
from locheads.pocket.heads import HeadReport, Truth, measure_heads, truth_of
from locheads.pocket.language import KINDS, QUESTION, Exchange, sample_exchange
from locheads.pocket.model import GRID, WEIGHTS, load_model
from locheads.pocket.render import pad_to_square, render


@dataclass(frozen=True)
class Observations:
    """`maps` float32 [n, layers, heads, 24, 24] of n bare expressions, `truths` their objects.

    `answers` holds, per scene, the number of exchanges and the accuracies of `train.accuracies`.
    """

    maps: np.ndarray
    truths: list[Truth]
    answers: list[dict[str, float]]


@torch.no_grad()
def observe(
    model: LlavaForConditionalGeneration, split: str = "val", scenes: int = 40, exchanges: int = 12
) -> Observations:
    """Asks `exchanges` prompts about each of the split's first `scenes` pictures."""
    model.eval()
    install(model)
    maps, truths, answers = [], [], []
    for _, scene in split_scenes(split)[:scenes]:
        rng = np.random.default_rng([scene.seed, 6])
        said = [sample_exchange(scene, rng) for _ in range(exchanges)]
        batch = Batch(normalise(pad_to_square(render(scene))[None]), *pack([said]), [said])
        found, record = _ask(model, batch)
        answers.append(record)
        bare = [(i, e.target) for i, e in enumerate(said) if e.kind != QUESTION and e.target is not None]
        maps.append(found[[i for i, _ in bare]])
        truths += [truth_of(scene, target) for _, target in bare]
    return Observations(np.concatenate(maps), truths, answers)


def _ask(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[np.ndarray, dict[str, float]]:
    """Maps [exchanges, layers, heads, rows, columns] of the last prompt tokens, and the answers' accuracies."""
    rows, start = [], len(PREFIX) + PATCHES
    for exchange in batch.exchanges[0]:
        rows.append(start + len(exchange.prompt.split()) - 1)
        start += len(exchange.prompt.split()) + len(exchange.answer.split())
    with recording(torch.tensor(rows), len(PREFIX) + torch.arange(PATCHES)) as recorder:
        logits, targets = answer_logits(model, batch, torch.arange(PATCHES)[None])
    maps = torch.stack(recorder.rows)[:, 0].permute(2, 0, 1, 3).numpy()
    return maps.reshape(*maps.shape[:3], GRID, GRID), accuracies(logits.argmax(1) == targets, batch) | _counts(batch)


def _counts(batch: Batch) -> dict[str, float]:
    said: list[Exchange] = batch.exchanges[0]
    return {f"n_{kind}": sum(e.kind == kind for e in said) for kind in (*KINDS, QUESTION)}


def answer_accuracy(answers: list[dict[str, float]]) -> dict[str, float]:
    """Share of answers without a mistake per kind and over all, and of right first words; teacher-forced."""
    result, right, asked = {}, 0.0, 0.0
    for kind in (*KINDS, QUESTION):
        count = sum(a[f"n_{kind}"] for a in answers)
        hits = sum(a[kind] * a[f"n_{kind}"] for a in answers if a[f"n_{kind}"])
        result[kind] = hits / count if count else float("nan")
        right, asked = right + hits, asked + count
    return result | {"all": right / asked, "first_word": float(np.mean([a["first_word"] for a in answers]))}


def probe(
    model: LlavaForConditionalGeneration, split: str = "val", scenes: int = 40
) -> tuple[dict[str, float], HeadReport]:
    """Answer accuracy and what the heads do, on the first `scenes` pictures of a split."""
    seen = observe(model, split, scenes)
    return answer_accuracy(seen.answers), measure_heads(seen.maps, seen.truths)


def main() -> None:
    """Entry point: prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m locheads.pocket.probe", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=WEIGHTS)
    parser.add_argument("--split", default="val")
    parser.add_argument("--scenes", type=int, default=40)
    arguments = parser.parse_args()
    answers, report = probe(load_model(arguments.folder), arguments.split, arguments.scenes)
    print(json.dumps({"answers": answers, **report.as_dict()}, indent=1))


if __name__ == "__main__":
    main()
