"""stage=ground: from the stored maps of the evaluated split to boxes and masks, of the heads and of every baseline."""

from collections import deque
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from locheads.evaluation.methods import HeadPlan, heads_of
from locheads.evaluation.metric_table import FIRST_LOOK, LOCALIZATION_HEADS
from locheads.evaluation.predict import predict
from locheads.evaluation.prompt_shares import prompt_shares
from locheads.evaluation.rows import OF_MAPS, Row, of_candidates
from locheads.evaluation.second_look import Views, after_looks
from locheads.evaluation.segmented import segment_rows
from locheads.evaluation.truth import Truth
from locheads.grounding.config import GroundingConfig
from locheads.grounding.contrast import read_maps
from locheads.pipeline.abstain import SCORE, WITHOUT_NONE, Abstention, abstaining, score_columns, scores_of, with_scores
from locheads.pipeline.answers import COLUMNS, Answers
from locheads.pipeline.processes import Each, chunks
from locheads.pipeline.run_files import FIRST, OTHERS, OWN, table_of, writing
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
FILES = {LOCALIZATION_HEADS: OWN, FIRST_LOOK: FIRST}
"""Of the methods that are not in the file of the others."""


@dataclass(frozen=True)
class Work:
    """What is done with every image. Packed and sent to other processes."""

    plan: HeadPlan
    config: GroundingConfig
    failures: Failures
    views: Views | None
    """Of a second look."""
    abstention: Abstention | None
    """When the run's own heads say "none"; the baselines always answer."""
    segmented: SegmenterConfig | None
    """How masks are asked for, where a segmenter makes them."""

    @property
    def files(self) -> tuple[str, ...]:
        """Of predictions."""
        first, others = self.views is not None, self.plan.baselines
        return OWN, *([FIRST] if first else []), *([OTHERS] if others else [])

    def scored_answers(self, store: AttentionStore, groups: list[ImageGroup]) -> Scored:
        return self.scored(groups, self.answers(store, groups))

    def answers(self, store: AttentionStore, groups: list[ImageGroup]) -> list[list[Row]]:
        """Rows of all methods, image by image."""
        read, with_maps = partial(read_maps, store.read, how=self.config.contrast), self._reads_maps
        maps = ((group, read(group, heads=heads_of(self.plan, group))) for group in groups)
        rows = [list(predict(g, own, self.plan, self.config, self.failures, with_maps)) for g, own in maps]
        if self.views is not None:
            rows = self._after_looks(store, groups, rows, self.views)
        if self.abstention is None:
            return rows
        scores = [scores_of(store, group, self.plan, self.config, self.abstention.probes) for group in groups]
        return [with_scores(*each, self.abstention.score) for each in zip(rows, scores, strict=True)]

    @property
    def _reads_maps(self) -> bool:
        return self.segmented is not None and self.segmented.reads_map

    def _after_looks(
        self, store: AttentionStore, groups: list[ImageGroup], rows: list[list[Row]], views: Views
    ) -> list[list[Row]]:
        store.refresh()  # another process has asked about the parts
        pairs = zip(rows, groups, strict=True)
        return [
            list(after_looks(own, store.read, group, self.plan, self.config, views, self.failures))
            for own, group in pairs
        ]

    def scored(self, groups: list[ImageGroup], answers: list[list[Row]]) -> Scored:
        """The rows as a table per file, with their scores."""
        truth, found = Truth(groups), {}
        for name in self.files:
            rows = [row for row in chain.from_iterable(answers) if FILES.get(row["method"], OTHERS) == name]
            if self.abstention is None or name != OWN:
                found[name] = self._table_and_scores(truth, groups, rows)
                continue
            _, always = self._table_and_scores(truth, groups, rows)
            table, scores = self._table_and_scores(truth, groups, abstaining(rows, self.abstention.threshold))
            of_absence = score_columns(rows) | {WITHOUT_NONE: always["box_iou"]}
            table = table.append_column(SCORE, pa.array(of_absence[SCORE], from_pandas=True))
            found[name] = table, scores.assign(**of_absence)
        return found

    def _table_and_scores(
        self, truth: Truth, groups: list[ImageGroup], rows: list[Row]
    ) -> tuple[pa.Table, pd.DataFrame]:
        table = table_of(rows, self.segmented is not None, of_candidates(groups))
        of_maps = {metric: np.array([row[metric] for row in rows], dtype=float) for metric in OF_MAPS}
        asked = {} if self.segmented is None else prompt_shares(rows, groups, self.segmented)
        return table, truth.score(table.to_pandas().assign(**of_maps)).assign(**asked)


def ground_stage(
    setup: Setup,
    plan: HeadPlan,
    failures: Failures,
    each: Each,
    views: Views | None = None,
    abstention: Abstention | None = None,
) -> dict[str, pd.DataFrame]:
    """The localization heads and every baseline on the evaluated split -> predictions.parquet, baselines.parquet; with
    `views` first_look.parquet besides.

    Gives the rows of `Truth.score` of each file: some of them need the maps, which are not kept. The baselines are kept
    beside the maps, because another criterion or selection changes none of them: in two files of parquet as bytes.
    """
    config = setup.config
    segmenter = load_segmenter(config.segmenter, config.engine)
    segmented = None if segmenter is None else config.segmenter
    work = Work(plan, config.grounding, failures, views, abstention, segmented)
    if segmenter is not None:
        return _ground(setup, work, each, segmenter)
    path, made = setup.folder / OTHERS, {}

    def make() -> dict[str, np.ndarray]:
        made.update(_ground(setup, work, each))
        files = {"rows": path.read_bytes(), "scores": made[OTHERS].to_parquet(index=False)}
        return {name: np.frombuffer(content, np.uint8) for name, content in files.items()}

    inputs = setup.inputs
    # What is removed of the maps as sinks was worked out of those of discovery's samples.
    read = [*inputs.evaluated, *inputs.probed, *([] if plan.sinks is None else inputs.discovery)]
    found = setup.store.kept("baselines", read, _baselines_depend_on(setup, plan, failures), make)
    if made:
        return made
    write_bytes(path, found["rows"].tobytes())
    own = _ground(setup, replace(work, plan=replace(plan, baselines=False)), each)
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


def _ground(setup: Setup, work: Work, each: Each, segmenter: Segmenter | None = None) -> dict[str, pd.DataFrame]:
    config, folder, groups = setup.config, setup.folder, setup.inputs.evaluated
    answers = Answers(config, setup.store) if config.prompt.asks else None
    scores: dict[str, list[pd.DataFrame]] = {name: [] for name in work.files}
    images = iter(track(groups, "ground", "images"))
    several, scored = of_candidates(groups), [] if work.abstention is None else [pa.field(SCORE, pa.float64())]
    more = {OWN: [*several, *scored, *(COLUMNS if answers else ())]}
    with ExitStack() as files:
        write = {
            name: files.enter_context(writing(folder / name, segmenter is not None, more.get(name, several)))
            for name in scores
        }
        # A segmenter is here, on its device; its masks are scored after it.
        found_of = each(work.scored_answers if segmenter is None else work.answers, groups)
        for chunk, found in zip(chunks(groups), found_of, strict=True):
            if segmenter is not None:
                masked = partial(segment_rows, segmenter=segmenter, config=config.segmenter)
                found = work.scored(chunk, list(map(masked, found, chunk)))
            for name, (table, part) in found.items():
                write[name](answers.beside(table, chunk) if answers and name == OWN else table)
                scores[name].append(part)
            deque(islice(images, len(chunk)), 0)
        next(images, None)  # the bar is full
    return {name: pd.concat(parts, ignore_index=True) for name, parts in scores.items()}
