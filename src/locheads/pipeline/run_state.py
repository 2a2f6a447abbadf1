"""What the stages of one run hand to each other."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from locheads.config import Config
from locheads.discovery.headset import HeadSet
from locheads.evaluation.methods import HeadPlan
from locheads.models.load import ModelIdentity
from locheads.pipeline.attention_pass import Loader
from locheads.pipeline.inputs import Inputs
from locheads.store.attention_store import AttentionStore
from locheads.types import Discovery, HeadIndex, HeadScores, ImageGroup


@dataclass
class Run:
    """One run: what its stages share, each stage adding what the next ones read."""

    config: Config
    folder: Path
    inputs: Inputs
    identity: ModelIdentity
    store: AttentionStore
    digest: str
    given: HeadSet | None = None
    """The heads of heads.set; None where discovery finds them."""
    loader: Loader | None = None
    failures: dict[str, str] = field(default_factory=dict)
    """Sample id -> why it has no attention."""
    discovery: Discovery | None = None
    stability: list[dict[str, Any]] = field(default_factory=list)
    """Per size of discovery.sizes each trial's heads."""
    head_iou: np.ndarray | None = None
    """[layer, head], on the discovery samples."""
    head_entropy: np.ndarray | None = None
    """[layer, head], mean over the discovery samples with any component."""
    best_rec: tuple[HeadIndex, ...] | None = None
    """The set of heads of `ceiling.search_heads`."""
    plan: HeadPlan | None = None
    map_scores: dict[str, Float[np.ndarray, "row metric"]] = field(default_factory=dict)
    """File of predictions -> MAP_METRICS of its rows, which need maps that are not kept."""

    def positions(self, scores: HeadScores) -> list[np.ndarray]:
        """Per trial where its samples are in `scores`; failed samples are not there (and are counted)."""
        where = {sample_id: i for i, sample_id in enumerate(scores.sample_ids)}
        return [np.array([where[i] for i in trial if i in where], dtype=int) for trial in self.inputs.trials]

    def failed(self, groups: list[ImageGroup]) -> list[str]:
        """Ids of the samples of these images that have no attention."""
        return [sample.sample_id for group in groups for sample in group.samples if sample.sample_id in self.failures]

    def scored_by(self) -> tuple[str, ...]:
        """Which numbers of a head the criterion reads."""
        return self.config.criterion.numbers_key()
