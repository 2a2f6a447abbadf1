"""Further looks at parts of the images: what was seen, what the localization heads answer then, and what it gains."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from pycocotools import mask as coco

from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.intervals import Difference, compare
from locheads.evaluation.map_metrics import map_scores
from locheads.evaluation.methods import HeadPlan, heads_maps
from locheads.evaluation.metric_table import FIRST_LOOK, LOCALIZATION_HEADS, measured
from locheads.evaluation.predict import LOST
from locheads.evaluation.rows import Row, mask_counts, prediction_row
from locheads.evaluation.slices import slices_of
from locheads.grounding.config import GroundingConfig
from locheads.grounding.contrast import Read, read_maps
from locheads.grounding.ground_maps import ground_stack
from locheads.grounding.zoom import Look, combine, part_id, part_of, resampled, whole
from locheads.grounding.zoom_config import ZoomConfig
from locheads.types import ImageGroup, Rect, Sample

COMPARED = ("rec_acc@0.5", "rec_mean_iou", "res_ciou", "res_miou", "pointing")
"""Metrics whose gain is told."""


@dataclass(frozen=True)
class Views:
    """Which parts of their images were looked at for some samples, after the first look."""

    config: ZoomConfig
    of_sample: Mapping[str, tuple[Rect, ...]] = field(default_factory=dict)
    """Sample id -> the parts, in the order of the looks; absent where there was nothing to look at."""

    def get(self, sample_id: str) -> tuple[Rect, ...]:
        return self.of_sample.get(sample_id, ())

    def failure(self, sample_id: str, failures: Mapping[str, str]) -> str | None:
        """Why a look of this sample failed; None where none did."""
        return next(
            (failures[key] for view in self.get(sample_id) if (key := part_id(sample_id, view)) in failures), None
        )


def look(read: Read, group: ImageGroup, sample: Sample, view: Rect, plan: HeadPlan, config: GroundingConfig) -> Look:
    """What the sample's localization heads answer about a part of its image, or all of it.

    Raises ValueError where its maps are not stored, or cannot be grounded.
    """
    own, heads = replace(group, samples=(sample,)), plan.heads(sample.sample_id)
    asked = group if view == whole(group) else part_of(own, view)
    only = sample.sample_id if asked is group else part_id(sample.sample_id, view)
    attention = next(iter(read_maps(read, asked, config.contrast, heads, only)), None)
    if attention is None:
        raise ValueError(LOST)
    geometry = attention.geometry
    maps, sinks, errors = heads_maps([(attention, 0, heads)], (geometry.rows, geometry.cols), plan.sinks)
    if errors[0] is not None:
        raise ValueError(errors[0])
    return Look(ground_stack(maps, (geometry,), config, sinks), view)


def after_looks(
    rows: list[Row],
    read: Read,
    group: ImageGroup,
    plan: HeadPlan,
    config: GroundingConfig,
    views: Views,
    failures: Mapping[str, str],
) -> Iterator[Row]:
    """The rows of one image with what the localization heads answer after all looks; their first answers become the
    rows of FIRST_LOOK. A look that failed makes the answer a miss, with the reason."""
    samples = {sample.sample_id: sample for sample in group.samples}
    for row in rows:
        if row["method"] != LOCALIZATION_HEADS:
            yield row
            continue
        yield row | {"method": FIRST_LOOK}
        sample, seen = samples[row["sample_id"]], views.get(row["sample_id"])
        if not seen or row["error"] is not None:
            yield row
        elif (reason := views.failure(sample.sample_id, failures)) is not None:
            yield _missed(row, group, sample, plan, reason)
        else:
            try:
                looks = [look(read, group, sample, view, plan, config) for view in (whole(group), *seen)]
            except ValueError as error:
                yield _missed(row, group, sample, plan, str(error))
            else:
                yield _answer(row, group, sample, plan, looks, views.config)


def _missed(row: Row, group: ImageGroup, sample: Sample, plan: HeadPlan, reason: str) -> Row:
    heads = plan.heads(sample.sample_id)
    return prediction_row(group, sample, LOCALIZATION_HEADS, heads=heads, error=f"a further look failed: {reason}")


def _answer(row: Row, group: ImageGroup, sample: Sample, plan: HeadPlan, looks: list[Look], config: ZoomConfig) -> Row:
    first, found = looks[0], combine(looks, config)
    if found is first:
        return row
    counts = mask_counts(found.mask(group.width, group.height))
    answer = prediction_row(
        group, sample, LOCALIZATION_HEADS, heads=plan.heads(sample.sample_id), box=found.box, counts=counts,
        point=found.peak,
    )  # fmt: skip
    # On the grid of the first look, so that the two can be compared.
    coverage = first.geometry.coverage(coco.decode(sample.mask).astype(bool))
    scores = map_scores(resampled(found, first)[None], first.geometry, np.array([sample.box]), coverage[None])
    return answer | {name: float(values[0]) for name, values in scores.items()}


@dataclass(frozen=True)
class Gain:
    """What the further looks change of one metric, on a part of the expressions."""

    part: str
    """A slice by the object's size, or "all"."""
    n_expressions: int
    n_images: int
    metrics: Mapping[str, Difference]
    """Metric -> first look (a), after all looks (b)."""


def gains(scores: pd.DataFrame, config: EvaluationConfig, seed: int) -> list[Gain]:
    """Of rows of `Truth.score` of both methods: of all expressions, and by the object's share of the image."""
    first, second = (scores[scores["method"] == method] for method in (FIRST_LOOK, LOCALIZATION_HEADS))
    parts = [("all", second), *((name, rows) for by, name, rows in slices_of(second) if by == "area")]
    first = first.set_index("sample_id")
    return [_gain(name, first.loc[rows["sample_id"]], rows, config, seed) for name, rows in parts]


def _gain(name: str, first: pd.DataFrame, second: pd.DataFrame, config: EvaluationConfig, seed: int) -> Gain:
    images, names = pd.factorize(second["image_id"], sort=True)
    found = {
        metric.key: compare(
            metric.parts(first), metric.parts(second), images,
            confidence=config.confidence, resamples=config.resamples, seed=seed,
        )
        for metric in measured(LOCALIZATION_HEADS, second.columns)
        if metric.key in COMPARED
    }  # fmt: skip
    return Gain(name, len(second), len(names), found)
