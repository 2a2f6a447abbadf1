"""How well a pocket model answers about held-out scenes: `python -m locheads.pocket.training.probe MODEL`.

What its heads do is measured as for any model: `python run.py model.id=DIR`.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from locheads.errors import LocHeadsError, ModelError, print_error
from locheads.evaluation.intervals import ratio_interval
from locheads.models.config import ModelConfig
from locheads.models.identity import POCKET_FOLDERS, source_of
from locheads.pocket.dataset import PocketData, split_scenes
from locheads.pocket.language import KINDS, QUESTION, sample_exchange
from locheads.pocket.pocket_model import load_model
from locheads.pocket.training.batches import PATCHES, Batch, pack, pixels_of
from locheads.pocket.training.facts import FACT
from locheads.pocket.training.forward import ATTENTION, answer_logits
from locheads.terminal import track


def first_words(batch: Batch) -> torch.Tensor:
    """Bool [n]: which of the n supervised positions predict the first word of an answer."""
    supervised = batch.targets != -100
    before = torch.nn.functional.pad(supervised, (1, 0))[..., :-1]
    return (supervised & ~before)[supervised]


def whole_answers(right: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Bool, per exchange of the batch: no mistake in its answer. `right` is bool [n], per supervised position."""
    number = first_words(batch).cumsum(0) - 1
    start = torch.ones(batch.targets.shape[:2].numel(), dtype=torch.int, device=right.device)
    return start.scatter_reduce(0, number, right.int(), "amin").bool()


def accuracies(right: torch.Tensor, batch: Batch) -> dict[str, float]:
    """Share of right first words and other words, and per kind that occurs the share of answers without a mistake.

    `right` is bool [n], over the supervised positions, exchange by exchange. Facts, to whose prompts another answer is
    right as well, do not count.
    """
    whole = whole_answers(right, batch).cpu().numpy()
    kinds = [exchange.kind for row in batch.exchanges for exchange in row]
    first = first_words(batch)
    told = torch.tensor([kind != FACT for kind in kinds], device=right.device)[first.cumsum(0) - 1]
    right, first = right[told], first[told]
    means = {kind: float(whole[[k == kind for k in kinds]].mean()) for kind in (*KINDS, QUESTION) if kind in kinds}
    return {
        "first_word": right[first].float().mean().item(),
        "other_words": right[~first].float().mean().item(),
    } | means


EXCHANGES = 12  # per image
MODEL_HELP = f"{', '.join(POCKET_FOLDERS)} or the export/ of a training"
Accuracies = dict[str, dict[str, float]]


def folder_of(model: str) -> Path:
    """Of a model that ships, by its name, or of a training's export. Raises ModelError where there is none."""
    folder = Path(source_of(ModelConfig(id=model)))
    if not folder.is_dir():
        raise ModelError(f"There is no pocket model {model}: give {MODEL_HELP}.")
    return folder


@torch.no_grad()
def answer_accuracy(
    model: LlavaForConditionalGeneration,
    split: str = "val",
    scenes: int | None = None,
    data: PocketData | None = None,
) -> Accuracies:
    """Share of answers without a mistake, over all and per kind: {"value", "low", "high", "n"}, 0 to 1.

    Asks 12 prompts about each of the first `scenes` images of the split of `data` (None: the pocket data). The model
    reads the right answer and must predict its every word from those before it. 95 % intervals resample images.
    """
    model.eval().set_attn_implementation(ATTENTION)
    right, kinds, images = [], [], []
    for image_id, scene in track(split_scenes(split, data)[:scenes], "answers", "images"):
        rng = np.random.default_rng([scene.seed, 6])
        exchanges = [sample_exchange(scene, rng) for _ in range(EXCHANGES)]
        batch = Batch(pixels_of([scene]), *pack([exchanges]), [exchanges])
        logits, targets = answer_logits(model, batch, torch.arange(PATCHES)[None])
        right += whole_answers(logits.argmax(1) == targets, batch).tolist()
        kinds += [exchange.kind for exchange in exchanges]
        images += [image_id] * len(exchanges)
    of_kind = {"all": np.ones(len(kinds), bool)} | {kind: np.array(kinds) == kind for kind in (*KINDS, QUESTION)}
    return {
        name: vars(ratio_interval(np.array(right) & rows, rows, images)) | {"n": int(rows.sum())}
        for name, rows in of_kind.items()
    }


def main() -> int:
    """Entry point: prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m locheads.pocket.training.probe", description=__doc__)
    parser.add_argument("model", nargs="?", default="pocket", help=MODEL_HELP)
    parser.add_argument("--split", default="val")
    parser.add_argument("--scenes", type=int, help="the first so many images (default: all)")
    arguments = parser.parse_args()
    try:
        model = load_model(folder_of(arguments.model))
    except LocHeadsError as error:
        return print_error(error)
    print(json.dumps(answer_accuracy(model, arguments.split, arguments.scenes), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
