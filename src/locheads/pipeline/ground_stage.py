"""stage=ground: from the stored maps of the evaluated split to boxes and masks, of the heads and of every baseline."""

from collections import deque
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

from locheads.evaluation.methods import HeadPlan, heads_of
from locheads.evaluation.metric_table import LOCALIZATION_HEADS
from locheads.evaluation.point_shares import point_shares
from locheads.evaluation.predict import predict
from locheads.evaluation.rows import OF_CANDIDATES, OF_MAPS, Row
from locheads.evaluation.segmented import segment_rows
from locheads.evaluation.truth import Truth
from locheads.grounding.config import GroundingConfig
from locheads.grounding.contrast import read_maps
from locheads.pipeline.abstain import SCORE, WITHOUT_NONE, Abstention, abstaining, score_columns, scores_of, with_scores
from locheads.pipeline.answers import COLUMNS, Answers
from locheads.pipeline.processes import Each, chunks
from locheads.pipeline.run_files import OTHERS, OWN, table_of, writing
from locheads.pipeline.setup import Failures, Setup, failed_in
from locheads.segmenters.config import SegmenterConfig
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
    setup: Setup, plan: HeadPlan, failures: Failures, each: Each, abstention: Abstention | None = None
) -> dict[str, pd.DataFrame]:
    """The localization heads and every baseline on the evaluated split -> predictions.parquet, baselines.parquet.

    Gives the rows of `Truth.score` of each file: some of them need the maps, which are not kept. The baselines are kept
    beside the maps, because another criterion or selection changes none of them: in two files of parquet as bytes.
    `abstention`: when the run's own heads say "none"; the baselines always answer.
    """
    segmenter = load_segmenter(setup.config.segmenter, setup.config.engine)
    if segmenter is not None:
        return _ground(setup, plan, failures, each, abstention, segmenter)
    path, made = setup.folder / OTHERS, {}

    def make() -> dict[str, np.ndarray]:
        made.update(_ground(setup, plan, failures, each, abstention))
        files = {"rows": path.read_bytes(), "scores": made[OTHERS].to_parquet(index=False)}
        return {name: np.frombuffer(content, np.uint8) for name, content in files.items()}

    inputs = setup.inputs
    # What is removed of the maps as sinks was worked out of those of discovery's samples.
    read = [*inputs.evaluated, *inputs.probed, *([] if plan.sinks is None else inputs.discovery)]
    found = setup.store.kept("baselines", read, _baselines_depend_on(setup, plan, failures), make)
    if made:
        return made
    write_bytes(path, found["rows"].tobytes())
    own = _ground(setup, replace(plan, baselines=False), failures, each, abstention)
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
    abstention: Abstention | None,
    segmenter: Segmenter | None = None,
) -> dict[str, pd.DataFrame]:
    config, folder, groups = setup.config, setup.folder, setup.inputs.evaluated
    answers = Answers(config, setup.store) if config.prompt.asks else None
    scores: dict[str, list[pd.DataFrame]] = {name: [] for name in _files(plan)}
    images = iter(track(groups, "ground", "images"))
    # A segmenter is here, on its device; its masks are scored after it.
    work = (
        partial(_scored_answers, plan, config.grounding, failures, abstention)
        if segmenter is None
        else partial(_answers, plan, config.grounding, failures, abstention, config.segmenter.reads_map)
    )
    with ExitStack() as files:
        several, scored = _of_candidates(groups), [] if abstention is None else [pa.field(SCORE, pa.float64())]
        more = {OWN: [*several, *scored, *(COLUMNS if answers else ())], OTHERS: several}
        write = {n: files.enter_context(writing(folder / n, segmenter is not None, more[n])) for n in scores}
        for chunk, found in zip(chunks(groups), each(work, groups), strict=True):
            if segmenter is not None:
                masked = partial(segment_rows, segmenter=segmenter, config=config.segmenter)
                found = _scored(plan, abstention, chunk, list(map(masked, found, chunk)), config.segmenter)
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
    abstention: Abstention | None,
    store: AttentionStore,
    groups: list[ImageGroup],
) -> Scored:
    return _scored(plan, abstention, groups, _answers(plan, config, failures, abstention, False, store, groups))


def _answers(
    plan: HeadPlan,
    config: GroundingConfig,
    failures: Failures,
    abstention: Abstention | None,
    with_maps: bool,
    store: AttentionStore,
    groups: list[ImageGroup],
) -> list[list[Row]]:
    """Rows of all methods, image by image."""
    read = partial(read_maps, store.read, how=config.contrast)
    rows = [list(predict(g, read(g, heads=heads_of(plan, g)), plan, config, failures, with_maps)) for g in groups]
    if abstention is None:
        return rows
    scores = [scores_of(store, group, plan, config, abstention.probes) for group in groups]
    return [with_scores(*each, abstention.score) for each in zip(rows, scores, strict=True)]


def _files(plan: HeadPlan) -> tuple[str, ...]:
    return (OWN, OTHERS) if plan.baselines else (OWN,)


def _of_candidates(groups: list[ImageGroup]) -> list[pa.Field]:
    """The further columns of a data set whose expressions may name several objects."""
    several = any(sample.boxes is not None for group in groups for sample in group.samples)
    return list(OF_CANDIDATES) if several else []


def _scored(
    plan: HeadPlan,
    abstention: Abstention | None,
    groups: list[ImageGroup],
    answers: list[list[Row]],
    segmented: SegmenterConfig | None = None,
) -> Scored:
    """`segmented`: how the masks were asked for, where a segmenter made them."""
    of_rows, found = partial(_table_and_scores, Truth(groups), groups, segmented), {}
    for name in _files(plan):
        rows = [r for r in chain.from_iterable(answers) if (r["method"] == LOCALIZATION_HEADS) == (name == OWN)]
        if abstention is None or name != OWN:
            found[name] = of_rows(rows)
            continue
        _, always = of_rows(rows)
        table, scores = of_rows(abstaining(rows, abstention.threshold))
        of_absence = score_columns(rows) | {WITHOUT_NONE: always["box_iou"]}
        table = table.append_column(SCORE, pa.array(of_absence[SCORE], from_pandas=True))
        found[name] = table, scores.assign(**of_absence)
    return found


def _table_and_scores(
    truth: Truth, groups: list[ImageGroup], segmented: SegmenterConfig | None, rows: list[Row]
) -> tuple[pa.Table, pd.DataFrame]:
    table = table_of(rows, segmented is not None, _of_candidates(groups))
    of_maps = {metric: np.array([row[metric] for row in rows], dtype=float) for metric in OF_MAPS}
    asked = {} if segmented is None else point_shares(rows, groups, segmented)
    return table, truth.score(table.to_pandas().assign(**of_maps)).assign(**asked)
