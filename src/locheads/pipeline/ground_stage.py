"""stage=ground: from the stored maps of the evaluated split to boxes and masks, of the heads and of every baseline."""

from collections import defaultdict
from functools import partial
from itertools import chain

import numpy as np
from jaxtyping import Float

from locheads.evaluation.methods import HeadPlan, heads_of
from locheads.evaluation.metric_table import LOCALIZATION_HEADS
from locheads.evaluation.predict import predict
from locheads.evaluation.rows import Row
from locheads.evaluation.segmented import segment_rows
from locheads.grounding.config import GroundingConfig
from locheads.pipeline.processes import Each
from locheads.pipeline.run_files import OTHERS, OWN, map_scores_of, writing
from locheads.pipeline.setup import Failures, Setup
from locheads.segmenters.load_segmenter import load_segmenter
from locheads.store.attention_store import AttentionStore
from locheads.terminal import track
from locheads.types import ImageGroup

MapScores = dict[str, Float[np.ndarray, "row metric"]]
"""File of predictions -> MAP_METRICS of its rows, which need maps that are not kept."""


def ground_stage(setup: Setup, plan: HeadPlan, failures: Failures, each: Each) -> MapScores:
    """The localization heads and every baseline on the evaluated split -> predictions.parquet, baselines.parquet."""
    config, folder = setup.config, setup.folder
    segmenter = load_segmenter(config.segmenter, config.engine)
    map_scores = defaultdict(list)
    files = {name: writing(folder / name, with_mask_score=segmenter is not None) for name in (OWN, OTHERS)}
    groups = setup.inputs.evaluated
    with files[OWN] as own, files[OTHERS] as others:
        answers = each(partial(_answers, plan, config.grounding, failures), groups)
        for group, rows in zip(track(groups, "ground", "images"), chain.from_iterable(answers), strict=True):
            if segmenter is not None:
                rows = segment_rows(rows, group, segmenter, config.segmenter.box)
            for name, write, is_own in ((OWN, own, True), (OTHERS, others, False)):
                part = [row for row in rows if (row["method"] == LOCALIZATION_HEADS) == is_own]
                write(part)
                map_scores[name].append(map_scores_of(part))
    return {name: np.concatenate(parts) for name, parts in map_scores.items()}


def _answers(
    plan: HeadPlan, config: GroundingConfig, failures: Failures, store: AttentionStore, groups: list[ImageGroup]
) -> list[list[Row]]:
    """Rows of all methods, image by image."""
    return [
        list(predict(group, store.read([group], heads=heads_of(plan, group)), plan, config, failures))
        for group in groups
    ]
