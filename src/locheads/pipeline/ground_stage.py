"""stage=ground: from the stored maps of the evaluated split to boxes and masks, of the heads and of every baseline."""

from collections import defaultdict

import numpy as np

from locheads.evaluation.metric_table import LOCALIZATION_HEADS
from locheads.evaluation.predict import predict
from locheads.evaluation.rows import Row
from locheads.evaluation.segmented import segment_rows
from locheads.models.engine import ALL_MAPS
from locheads.pipeline.answer_files import OTHERS, OWN, map_scores_of, writing
from locheads.pipeline.attend_stage import fill_compactly
from locheads.pipeline.head_plan import plan_heads
from locheads.pipeline.progress import track
from locheads.pipeline.run_state import Run
from locheads.segmenters.load_segmenter import load_segmenter
from locheads.types import ImageGroup


def ground_stage(run: Run) -> None:
    """The localization heads and every baseline on the evaluated split -> predictions.parquet, baselines.parquet."""
    if run.config.engine.maps != ALL_MAPS:
        fill_compactly(run)
    run.plan = plan_heads(run)
    settings = run.config.segmenter
    segmenter = load_segmenter(settings, run.config.engine)
    map_scores = defaultdict(list)
    files = {name: writing(run.folder / name, with_mask_score=segmenter is not None) for name in (OWN, OTHERS)}
    with files[OWN] as own, files[OTHERS] as others:
        for group in track(run.inputs.evaluated, "ground", "images"):
            rows = _answers(run, group)
            if segmenter is not None:
                rows = segment_rows(rows, group, segmenter, settings.box)
            for name, write, is_own in ((OWN, own, True), (OTHERS, others, False)):
                part = [row for row in rows if (row["method"] == LOCALIZATION_HEADS) == is_own]
                write(part)
                map_scores[name].append(map_scores_of(part))
    run.map_scores = {name: np.concatenate(parts) for name, parts in map_scores.items()}


def _answers(run: Run, group: ImageGroup) -> list[Row]:
    assert run.plan is not None
    return list(predict(group, run.store.read([group]), run.plan, run.config.grounding, run.failures))
