"""stage=ground: from the stored maps of the evaluated split to boxes and masks, of the heads and of every baseline."""

from collections import defaultdict

import numpy as np
from jaxtyping import Float

from locheads.evaluation.methods import HeadPlan, heads_of
from locheads.evaluation.metric_table import LOCALIZATION_HEADS
from locheads.evaluation.predict import predict
from locheads.evaluation.segmented import segment_rows
from locheads.pipeline.run_files import OTHERS, OWN, map_scores_of, writing
from locheads.pipeline.setup import Failures, Setup
from locheads.segmenters.load_segmenter import load_segmenter
from locheads.terminal import track

MapScores = dict[str, Float[np.ndarray, "row metric"]]
"""File of predictions -> MAP_METRICS of its rows, which need maps that are not kept."""


def ground_stage(setup: Setup, plan: HeadPlan, failures: Failures) -> MapScores:
    """The localization heads and every baseline on the evaluated split -> predictions.parquet, baselines.parquet."""
    config, folder = setup.config, setup.folder
    segmenter = load_segmenter(config.segmenter, config.engine)
    map_scores = defaultdict(list)
    files = {name: writing(folder / name, with_mask_score=segmenter is not None) for name in (OWN, OTHERS)}
    with files[OWN] as own, files[OTHERS] as others:
        for group in track(setup.inputs.evaluated, "ground", "images"):
            stored = setup.store.read([group], heads=heads_of(plan, group))
            rows = list(predict(group, stored, plan, config.grounding, failures))
            if segmenter is not None:
                rows = segment_rows(rows, group, segmenter, config.segmenter.box)
            for name, write, is_own in ((OWN, own, True), (OTHERS, others, False)):
                part = [row for row in rows if (row["method"] == LOCALIZATION_HEADS) == is_own]
                write(part)
                map_scores[name].append(map_scores_of(part))
    return {name: np.concatenate(parts) for name, parts in map_scores.items()}
