"""What a pocket model's heads do on fresh scenes: `python -m locheads.pocket.training.measure MODEL`, a row of figures.

Scenes follow from their number, `--first`: those that choices were made on are not the ones to report. The shares are
the paper's measures, by the same code as a run's; `experiment=pocket` gives the whole evidence on the pocket data.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool

from locheads.data.config import DatasetConfig
from locheads.data.image_files import open_image
from locheads.discovery.config import CriterionConfig
from locheads.discovery.frequencies import discover, top_heads
from locheads.discovery.scores import score, stack_scores
from locheads.discovery.trials import draw_trials
from locheads.errors import LocHeadsError, print_error
from locheads.evaluation.best_heads import figure6, head_iou
from locheads.evaluation.intervals import Interval, compare, ratio_interval
from locheads.evaluation.methods import heads_maps, random_heads
from locheads.evaluation.metrics import box_iou
from locheads.grounding.config import GroundingConfig
from locheads.grounding.ground_maps import ground_stack
from locheads.library import read_samples
from locheads.models.attend import attend
from locheads.models.config import PromptConfig
from locheads.models.loaded import LoadedModel, load_model
from locheads.pocket.dataset import IMAGES, POCKET, TABLES, PocketData, ensure_dataset
from locheads.pocket.pocket_model import load_model as load_weights
from locheads.pocket.training.evidence import LOW_SUM
from locheads.pocket.training.probe import MODEL_HELP, answer_accuracy, folder_of
from locheads.terminal import track
from locheads.types import Attention, Discovery, HeadIndex, ImageGroup

FIRST = 1_000_000  # number of the first scene; training's are above 2 ** 40, the data sets' below 500,000
LOCALIZES = 0.5  # share of its own boxes that are right
K, TRIALS, DRAWS = 3, 5, 10  # the paper's heads and trials; draws of random heads
CRITERIA = {"found": "s_img_entropy", "s_img": "s_img", "entropy": "entropy"}


@dataclass(frozen=True)
class HeadsRow:
    """One row of the table. Shares from 0 to 1, REC Acc@0.5 with its 95 % interval over images."""

    localizers: int
    """Heads of the whole model that reach `LOCALIZES` alone."""
    heads: int
    """How many the model has."""
    mean_of_all: Interval
    random: Interval
    """Mean over `DRAWS` draws of K heads of the layers that the paper's criteria admit, eligible or not."""
    found: Interval
    s_img: Interval
    """K heads by the attention sum alone, as `entropy` by the other criterion alone."""
    entropy: Interval
    over_s_img: Interval
    """Difference of the found heads to those by the attention sum alone, in pairs; `over_entropy` likewise."""
    over_entropy: Interval
    answers: Interval
    answers_by_position: Interval
    tau: float
    low_sums: float
    """Share of all heads whose mean attention sum lies below `LOW_SUM`."""
    spearman: float | None
    """Of selection frequency and mask IoU (Fig. 6), on the discovery samples; None where it is not defined."""
    trials_agree: bool
    """Whether every trial chose the same K heads."""
    chosen: dict[str, list[str]]
    """The heads by each criterion."""
    n_expressions: int
    n_images: int


def fresh_data(first: int, images: int) -> PocketData:
    """Scenes of the pocket data's kind from this number on: as many for discovery as for the test."""
    splits: dict[str, tuple[int, tuple[int, ...]]] = {name: (images, (3, 4, 5)) for name in ("discovery", "test")}
    return PocketData(f"pocket_fresh_{first}_{images}", POCKET.version, "", splits, first, POCKET.refs, POCKET.add_refs)


def read_fresh(data: PocketData, cache: Path) -> dict[str, list[ImageGroup]]:
    """The image groups of every split; made in `cache` where they are not there."""
    root = ensure_dataset(cache, data)
    where = DatasetConfig(reader="refer", folder=str(root / TABLES), images=str(root / IMAGES))
    return {split: read_samples(split, where, cache) for split in data.splits}


def measure(folder: Path, cache: Path, first: int = FIRST, images: int = 60) -> HeadsRow:
    """The row of the model in `folder`; `images` scenes for discovery, then as many for all that is reported.

    The data are made in `cache`. Raises DiscoveryError where fewer than K heads are ever chosen.
    """
    data = fresh_data(first, images)
    model, groups = load_model(str(folder)), read_fresh(data, cache)
    attended = _attended(model, groups["discovery"])
    found = {name: _discover(attended, CriterionConfig(score=by)) for name, by in CRITERIA.items()}
    chosen = {name: tuple(top_heads(discovery, K)) for name, discovery in found.items()}
    paper = found["found"]
    check = figure6(paper, head_iou(attended, groups["discovery"]))
    recs, singles = _recs(model, groups["test"], chosen, paper.mean_sums.shape)
    answers = answer_accuracy(load_weights(folder), "test", data=data)
    tops = [set(ranking[:K]) for ranking in paper.ranking_per_trial()]
    return HeadsRow(
        localizers=int((singles >= LOCALIZES).sum()), heads=singles.size, **recs,
        answers=_interval(answers["all"]), answers_by_position=_interval(answers["position"]),
        tau=float(paper.tau or 0), low_sums=float((paper.mean_sums < LOW_SUM).mean()), spearman=check["spearman"],
        trials_agree=all(top == tops[0] for top in tops),
        chosen={name: [str(head) for head in heads] for name, heads in chosen.items()},
        n_expressions=sum(len(group.samples) for group in groups["test"]), n_images=images,
    )  # fmt: skip


def _attended(model: LoadedModel, groups: Sequence[ImageGroup]) -> list[Attention]:
    return [attend(model, group, open_image(group), PromptConfig()) for group in track(groups, "attention", "images")]


def _discover(attended: Sequence[Attention], criterion: CriterionConfig) -> Discovery:
    """As `locheads.discover_heads` draws: half of the samples in each trial."""
    scores = stack_scores([score(attention, criterion) for attention in attended])
    images = np.repeat(np.arange(len(attended)), [len(attention.sample_ids) for attention in attended])
    return discover(scores, draw_trials(images, len(images) // 2, TRIALS, 0), criterion)


def _recs(
    model: LoadedModel, groups: Sequence[ImageGroup], chosen: dict[str, tuple[HeadIndex, ...]], shape: tuple[int, ...]
) -> tuple[dict[str, Interval], np.ndarray]:
    """REC Acc@0.5 of every set of heads, and of every head alone, float [layer, head]."""
    admitted = np.zeros(shape, dtype=bool)
    admitted[CriterionConfig().skip_layers :] = True
    draws = random_heads(admitted, K, DRAWS, seed=0)
    singles = [(HeadIndex(*map(int, at)),) for at in np.ndindex(*shape)]
    sets, images = [*chosen.values(), None, *draws], np.repeat(range(len(groups)), [len(g.samples) for g in groups])
    parts = [
        (hits(attention, group, sets), hits(attention, group, singles))
        for group, attention in zip(groups, _attended(model, groups), strict=True)
    ]
    of_sets, alone = (np.concatenate(each) for each in zip(*parts, strict=True))
    columns = dict(zip([*chosen, "mean_of_all"], of_sets.T[: len(chosen) + 1].astype(float), strict=True))
    columns["random"] = of_sets[:, len(chosen) + 1 :].mean(axis=1)
    recs = {name: ratio_interval(column, np.ones(len(column)), images) for name, column in columns.items()}
    recs |= {f"over_{name}": _over(columns, name, images) for name in CRITERIA if name != "found"}
    return recs, alone.mean(axis=0).reshape(shape)


def _over(columns: dict[str, np.ndarray], other: str, images: np.ndarray) -> Interval:
    alone, found = ((columns[name], np.ones(len(images))) for name in (other, "found"))
    difference = compare(alone, found, images)
    return Interval(difference.difference, difference.low, difference.high)


def hits(
    attention: Attention, group: ImageGroup, sets: Sequence[Sequence[HeadIndex] | None]
) -> Bool[np.ndarray, "sample set"]:
    """Whether the box by each set of heads (None: the mean over all) has an IoU of at least 0.5 with the true one."""
    geometry, n_samples = attention.geometry, len(group.samples)
    asked = [(attention, row, heads) for row in range(n_samples) for heads in sets]
    maps, _, _ = heads_maps(asked, (geometry.rows, geometry.cols))
    boxes = ground_stack(maps, (geometry,) * len(asked), GroundingConfig()).boxes
    truth = np.repeat([sample.box for sample in group.samples], len(sets), axis=0)
    return (box_iou(boxes, truth) >= 0.5).reshape(n_samples, len(sets))


def _interval(share: dict[str, float]) -> Interval:
    return Interval(share["value"], share["low"], share["high"])


def shown(row: HeadsRow) -> str:
    """The row in Markdown, percent but for tau and Spearman, in the columns of experiments/pocket/trials.md."""
    shares = (row.mean_of_all, row.random, row.found, row.s_img, row.entropy, row.answers, row.answers_by_position)
    rho = "-" if row.spearman is None else f"{row.spearman:.2f}"
    figures = [f"{100 * share.value:.0f}" for share in shares] + [f"{row.tau:.2f}", f"{100 * row.low_sums:.0f}", rho]
    return " | ".join([str(row.localizers), *figures])


def main() -> int:
    """Entry point: prints the row, then all of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m locheads.pocket.training.measure", description=__doc__)
    parser.add_argument("model", nargs="?", default="pocket", help=MODEL_HELP)
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first scene")
    parser.add_argument("--images", type=int, default=60, help="scenes of discovery, and as many of the test")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        row = measure(folder_of(arguments.model), arguments.cache, arguments.first, arguments.images)
    except LocHeadsError as error:
        return print_error(error)
    print(shown(row))
    print(json.dumps(asdict(row)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
