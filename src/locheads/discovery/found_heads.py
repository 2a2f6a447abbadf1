"""What discovery from Python gives: the heads, how far to trust them, and the file that keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from locheads.dependence.head_dependence import HeadDependence
from locheads.discovery.config import CriterionConfig, Draw, SelectionKind
from locheads.discovery.frequencies import stability
from locheads.discovery.support import support
from locheads.models.config import ModelConfig, PromptConfig
from locheads.records.follows import DependenceGrids, FollowsRecord
from locheads.records.heads_file import FoundOn, HeadsFile, SupportRecord
from locheads.store.atomic import write_json
from locheads.types import Discovery, HeadIndex, HeadScores


@dataclass(frozen=True)
class Judgement:
    """How far the localization heads depend on the samples that were drawn."""

    tops: tuple[tuple[HeadIndex, ...], ...]
    """Each trial's own k heads, the most frequent first."""
    agreement: float
    """The share of these that are among the localization heads; 1: every trial leads to the same set."""
    margin: float
    """Selection frequency of the last localization head less that of the first head after it, in [0, 1]."""
    support: SupportRecord
    """How often the same heads come first where the images are drawn anew, and how many samples suffice (`.enough`)."""
    stability: list[dict[str, Any]]
    """Per number of samples {"n", "tops"}: each trial's k heads from so many of its samples."""


@dataclass(frozen=True)
class FoundHeads:
    """The localization heads with everything that they were chosen from."""

    heads: tuple[HeadIndex, ...]
    """The k most frequent first."""
    discovery: Discovery
    scores: HeadScores
    """Of every sample and head."""
    trials: tuple[np.ndarray, ...]
    """Per trial the positions of its samples in `scores`."""
    images: np.ndarray
    """The number of each sample's image."""
    model: ModelConfig
    prompt: PromptConfig
    criterion: CriterionConfig
    seed: int = 0
    draw: Draw = Draw.expression
    """What the trials drew."""
    dependence: HeadDependence | None = None
    """Of every head on the words; None where no image had expressions for several objects."""
    follows: FollowsRecord | None = None
    """Whether the heads follow the words (`.sentence`), as a run says it; None where `dependence` is."""

    def judge(self, sizes: Sequence[int] = ()) -> Judgement:
        """How far to trust the heads. `sizes`: numbers of samples per trial from which the heads are found again."""
        k, rankings = len(self.heads), self.discovery.ranking_per_trial()
        tops = tuple(tuple(ranking[:k]) for ranking in rankings)
        among = [head in self.heads for top in tops for head in top]
        ranking, frequency = self.discovery.ranking(), self.discovery.frequency_mean
        following = frequency[ranking[k].layer, ranking[k].head] if len(ranking) > k else 0.0
        last = frequency[self.heads[-1].layer, self.heads[-1].head]
        fewer = stability(self.scores, self.trials, self.criterion, sizes, k, self.seed, self.images, self.draw)
        again = support(self.scores, self.trials, self.criterion, self.images, k, self.seed)
        return Judgement(tops, sum(among) / (k * len(tops)), float(last - following), again, fewer)


def save_heads(found: FoundHeads, path: str | Path, data: tuple[str, str] | None = None) -> Path:
    """Writes a heads.json that `load_heads`, `ground` and `heads.set=FILE` read. -> the file.

    `data`: name and split of what the heads were found on, by which a run tells that it evaluates other images.
    Raises StoreError where it cannot be written.
    """
    path = Path(path) / "heads.json" if Path(path).is_dir() else Path(path)
    follows = found.follows
    record = HeadsFile.of(
        found.discovery,
        found.heads,
        found.trials,
        found.model,
        found.prompt,
        found.criterion,
        source=f"found with the library on {len(found.trials[0])} samples in each of {len(found.trials)} trials",
        draw=found.draw.value,
        selection=SelectionKind.fixed.value,
        n_failed=0,
        dataset=FoundOn(name=data[0], split=data[1]) if data else None,
        seed=found.seed,
        dependence=None if found.dependence is None else DependenceGrids.of(found.dependence),
        follows=follows.model_copy(update={"split": data[1]}) if data and follows else follows,
    )
    write_json(path, record.content())
    return path
