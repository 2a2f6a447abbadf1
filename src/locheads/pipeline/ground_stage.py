"""stage=ground: from the stored maps of the evaluated split to boxes and masks, of the heads and of every baseline."""

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from locheads.evaluation.map_metrics import MAP_METRICS
from locheads.evaluation.methods import HeadPlan, heads_of
from locheads.evaluation.metric_table import FIRST_LOOK, LOCALIZATION_HEADS
from locheads.evaluation.predict import predict
from locheads.evaluation.rows import Row
from locheads.evaluation.second_look import Views, after_looks
from locheads.evaluation.segmented import segment_rows
from locheads.evaluation.truth import Truth
from locheads.grounding.config import GroundingConfig
from locheads.grounding.contrast import read_maps
from locheads.pipeline.answers import COLUMNS, Answers
from locheads.pipeline.processes import Each, chunks
from locheads.pipeline.run_files import FIRST, OTHERS, OWN, table_of, writing
from locheads.pipeline.setup import Failures, Setup, failed_in
from locheads.segmenters.load_segmenter import load_segmenter
from locheads.segmenters.segmenter import Segmenter
from locheads.store.atomic import write_bytes
from locheads.store.attention_store import AttentionStore
from locheads.store.provenance import source_digest, versions
from locheads.terminal import track
from locheads.types import ImageGroup

Scored = dict[str, tuple[pa.Table, pd.DataFrame]]
"""File of predictions -> its rows of some images, and their scores."""


def ground_stage(
    setup: Setup, plan: HeadPlan, failures: Failures, each: Each, views: Views | None = None
) -> dict[str, pd.DataFrame]:
    """The localization heads and every baseline on the evaluated split -> predictions.parquet, baselines.parquet; with
    `views`, of a second look, first_look.parquet besides.

    Gives the rows of `Truth.score` of each file: some of them need the maps, which are not kept. The baselines are kept
    beside the maps, because another criterion or selection changes none of them: in two files of parquet as bytes.
    """
    segmenter = load_segmenter(setup.config.segmenter, setup.config.engine)
    if segmenter is not None:
        return _ground(setup, plan, failures, each, views, segmenter)
    path, made = setup.folder / OTHERS, {}

    def make() -> dict[str, np.ndarray]:
        made.update(_ground(setup, plan, failures, each, views))
        files = {"rows": path.read_bytes(), "scores": made[OTHERS].to_parquet(index=False)}
        return {name: np.frombuffer(content, np.uint8) for name, content in files.items()}

    inputs = setup.inputs
    # What is removed of the maps as sinks was worked out of those of discovery's samples.
    read = [*inputs.evaluated, *inputs.probed, *([] if plan.sinks is None else inputs.discovery)]
    found = setup.store.kept("baselines", read, _baselines_depend_on(setup, plan, failures), make)
    if made:
        return made
    write_bytes(path, found["rows"].tobytes())
    own = _ground(setup, replace(plan, baselines=False), failures, each, views)
    return own | {OTHERS: pd.read_parquet(BytesIO(found["scores"].tobytes()))}


def _baselines_depend_on(setup: Setup, plan: HeadPlan, failures: Failures) -> list[Any]:
    """Beside the stored maps: samples, heads, settings, code."""
    groups = setup.inputs.evaluated
    return [
        [replace(group, path=Path()) for group in groups],
        [plan.best_rec, plan.best_iou, plan.random],
        asdict(setup.config.grounding),
        {sample_id: failures[sample_id] for sample_id in failed_in(groups, failures)},
        [source_digest(), versions()],
    ]


def _ground(
    setup: Setup,
    plan: HeadPlan,
    failures: Failures,
    each: Each,
    views: Views | None,
    segmenter: Segmenter | None = None,
) -> dict[str, pd.DataFrame]:
    config, folder, groups = setup.config, setup.folder, setup.inputs.evaluated
    answers = Answers(config, setup.store) if config.prompt.asks else None
    scores: dict[str, list[pd.DataFrame]] = {name: [] for name in _files(plan, views)}
    images = iter(track(groups, "ground", "images"))
    # A segmenter is here, on its device; its masks are scored after it.
    work = partial(_scored_answers if segmenter is None else _answers, plan, config.grounding, failures, views)
    with ExitStack() as files:
        more = {OWN: COLUMNS if answers else ()}
        write = {n: files.enter_context(writing(folder / n, segmenter is not None, more.get(n, ()))) for n in scores}
        for chunk, found in zip(chunks(groups), each(work, groups), strict=True):
            if segmenter is not None:
                masked = partial(segment_rows, segmenter=segmenter, box_of_mask=config.segmenter.box)
                found = _scored(chunk, list(map(masked, found, chunk)), list(scores), with_mask_score=True)
            for name, (table, part) in found.items():
                write[name](answers.beside(table, chunk) if answers and name == OWN else table)
                scores[name].append(part)
            deque(islice(images, len(chunk)), 0)
        next(images, None)  # the bar is full
    return {name: pd.concat(parts, ignore_index=True) for name, parts in scores.items()}


def _scored_answers(
    plan: HeadPlan,
    config: GroundingConfig,
    failures: Failures,
    views: Views | None,
    store: AttentionStore,
    groups: list[ImageGroup],
) -> Scored:
    return _scored(groups, _answers(plan, config, failures, views, store, groups), _files(plan, views))


def _answers(
    plan: HeadPlan,
    config: GroundingConfig,
    failures: Failures,
    views: Views | None,
    store: AttentionStore,
    groups: list[ImageGroup],
) -> list[list[Row]]:
    """Rows of all methods, image by image."""
    read = partial(read_maps, store.read, how=config.contrast)
    rows = [list(predict(g, read(g, heads=heads_of(plan, g)), plan, config, failures)) for g in groups]
    if views is None:
        return rows
    store.refresh()  # another process has asked about the parts
    pairs = zip(rows, groups, strict=True)
    return [list(after_looks(own, store.read, g, plan, config, views, failures)) for own, g in pairs]


FILES = {LOCALIZATION_HEADS: OWN, FIRST_LOOK: FIRST}
"""Of the methods that are not in the file of the others."""


def _files(plan: HeadPlan, views: Views | None) -> tuple[str, ...]:
    return OWN, *([FIRST] if views is not None else []), *([OTHERS] if plan.baselines else [])


def _scored(
    groups: list[ImageGroup], answers: list[list[Row]], files: Sequence[str], with_mask_score: bool = False
) -> Scored:
    truth, found = Truth(groups), {}
    for name in files:
        rows = [r for r in chain.from_iterable(answers) if FILES.get(r["method"], OTHERS) == name]
        table = table_of(rows, with_mask_score)
        of_maps = {metric: np.array([row[metric] for row in rows], dtype=float) for metric in MAP_METRICS}
        found[name] = table, truth.score(table.to_pandas().assign(**of_maps))
    return found
