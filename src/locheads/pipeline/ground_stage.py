"""stage=ground: from the stored maps of the evaluated split to boxes and masks, of the heads and of every baseline."""

from collections import deque
from functools import partial
from itertools import chain, islice

import numpy as np
import pandas as pd
import pyarrow as pa

from locheads.evaluation.map_metrics import MAP_METRICS
from locheads.evaluation.methods import HeadPlan, heads_of
from locheads.evaluation.metric_table import LOCALIZATION_HEADS
from locheads.evaluation.predict import predict
from locheads.evaluation.rows import Row
from locheads.evaluation.segmented import segment_rows
from locheads.evaluation.truth import Truth
from locheads.grounding.config import GroundingConfig
from locheads.grounding.contrast import read_maps
from locheads.pipeline.processes import Each, chunks
from locheads.pipeline.run_files import OTHERS, OWN, table_of, writing
from locheads.pipeline.setup import Failures, Setup
from locheads.segmenters.load_segmenter import load_segmenter
from locheads.store.attention_store import AttentionStore
from locheads.terminal import track
from locheads.types import ImageGroup

Scored = dict[str, tuple[pa.Table, pd.DataFrame]]
"""File of predictions -> its rows of some images, and their scores."""


def ground_stage(setup: Setup, plan: HeadPlan, failures: Failures, each: Each) -> dict[str, pd.DataFrame]:
    """The localization heads and every baseline on the evaluated split -> predictions.parquet, baselines.parquet.

    Gives the rows of `Truth.score` of each file: some of them need the maps, which are not kept.
    """
    config, folder, groups = setup.config, setup.folder, setup.inputs.evaluated
    segmenter = load_segmenter(config.segmenter, config.engine)
    scores: dict[str, list[pd.DataFrame]] = {OWN: [], OTHERS: []}
    files = {name: writing(folder / name, with_mask_score=segmenter is not None) for name in scores}
    images = iter(track(groups, "ground", "images"))
    # A segmenter is here, on its device; its masks are scored after it.
    work = partial(_scored_answers if segmenter is None else _answers, plan, config.grounding, failures)
    with files[OWN] as own, files[OTHERS] as others:
        for chunk, found in zip(chunks(groups), each(work, groups), strict=True):
            if segmenter is not None:
                masked = partial(segment_rows, segmenter=segmenter, box_of_mask=config.segmenter.box)
                found = _scored(chunk, list(map(masked, found, chunk)), with_mask_score=True)
            for name, write in ((OWN, own), (OTHERS, others)):
                table, part = found[name]
                write(table)
                scores[name].append(part)
            deque(islice(images, len(chunk)), 0)
        next(images, None)  # the bar is full
    return {name: pd.concat(parts, ignore_index=True) for name, parts in scores.items()}


def _scored_answers(
    plan: HeadPlan, config: GroundingConfig, failures: Failures, store: AttentionStore, groups: list[ImageGroup]
) -> Scored:
    return _scored(groups, _answers(plan, config, failures, store, groups))


def _answers(
    plan: HeadPlan, config: GroundingConfig, failures: Failures, store: AttentionStore, groups: list[ImageGroup]
) -> list[list[Row]]:
    """Rows of all methods, image by image."""
    read = partial(read_maps, store.read, how=config.contrast)
    return [list(predict(g, read(g, heads=heads_of(plan, g)), plan, config, failures)) for g in groups]


def _scored(groups: list[ImageGroup], answers: list[list[Row]], with_mask_score: bool = False) -> Scored:
    truth, found = Truth(groups), {}
    for name in (OWN, OTHERS):
        rows = [r for r in chain.from_iterable(answers) if (r["method"] == LOCALIZATION_HEADS) == (name == OWN)]
        table = table_of(rows, with_mask_score)
        of_maps = {metric: np.array([row[metric] for row in rows], dtype=float) for metric in MAP_METRICS}
        found[name] = table, truth.score(table.to_pandas().assign(**of_maps))
    return found
