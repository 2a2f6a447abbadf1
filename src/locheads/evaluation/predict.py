"""One row per expression and method: what was answered, before anybody looks at the truth.

But for MAP_METRICS: they need the map, which is not kept, so they are taken here. Nothing that answers reads them, and
predictions.parquet leaves them out.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from pycocotools import mask as coco

from locheads.evaluation.map_metrics import MAP_METRICS, map_scores
from locheads.evaluation.methods import (
    CENTRE_BOX,
    DIRECT_OUTPUT,
    HeadPlan,
    box_mask,
    centre_mask,
    ground_with,
    methods_of,
)
from locheads.evaluation.metrics import peak
from locheads.grounding.choices import GroundingConfig
from locheads.types import Attention, Box, CompactAttention, Grounding, HeadIndex, ImageGroup, Sample

Row = dict[str, Any]


def predict(
    group: ImageGroup,
    attentions: Iterable[Attention | CompactAttention],
    plan: HeadPlan,
    config: GroundingConfig,
    failures: Mapping[str, str],
) -> Iterator[Row]:
    """Rows of all methods for one picture's expressions.

    A sample without attention still gets its rows, empty and with the reason that `failures` (sample id -> reason)
    gives, so that it counts as a miss of every method.
    """
    without = {sample.sample_id: sample for sample in group.samples}
    for attention in attentions:
        for row, sample_id in enumerate(attention.sample_ids):
            yield from _rows(group, without.pop(sample_id), attention, row, plan, config)
    for sample_id, sample in without.items():
        reason = failures.get(sample_id, "the attention store lost it while the run was going on")
        methods = [(m, draw) for m, draw, _ in methods_of(plan, sample_id)] + [(CENTRE_BOX, 0)]
        yield from (_row(group, sample, m, draw, (), error=reason) for m, draw in methods)


def direct_row(group: ImageGroup, sample: Sample, box: Box | None, error: str | None = None) -> Row:
    """What the LVLM itself answered: its box, which also stands for the mask."""
    mask = None if box is None else box_mask(group, box)
    return _row(group, sample, DIRECT_OUTPUT, 0, (), box=box, mask=mask, error=error)


def _rows(
    group: ImageGroup,
    sample: Sample,
    attention: Attention | CompactAttention,
    row: int,
    plan: HeadPlan,
    config: GroundingConfig,
) -> Iterator[Row]:
    coverage = attention.geometry.coverage(coco.decode(sample.mask).astype(bool))
    for method, draw, heads in methods_of(plan, sample.sample_id):
        try:
            answer = ground_with(attention, row, heads, config, plan.sinks)
        except ValueError as error:
            yield _row(group, sample, method, draw, heads or (), error=str(error))
        else:
            yield _answer_row(group, sample, method, draw, heads or (), answer, coverage)
    box, mask = centre_mask(group)
    yield _row(group, sample, CENTRE_BOX, 0, (), box=box, mask=mask)


def _answer_row(
    group: ImageGroup,
    sample: Sample,
    method: str,
    draw: int,
    heads: tuple[HeadIndex, ...],
    answer: Grounding,
    coverage: Float[np.ndarray, "row col"],
) -> Row:
    point = peak(answer.heatmap, answer.geometry)
    row = _row(group, sample, method, draw, heads, box=answer.box, mask=answer.mask, point=point)
    return row | map_scores(answer.heatmap, answer.geometry, sample.box, coverage)


def _row(
    group: ImageGroup,
    sample: Sample,
    method: str,
    draw: int,
    heads: tuple[HeadIndex, ...],
    *,
    box: Box | None = None,
    mask: Bool[np.ndarray, "height width"] | None = None,
    point: tuple[float, float] | None = None,
    error: str | None = None,
) -> Row:
    x0, y0, x1, y1 = box or (None,) * 4
    peak_x, peak_y = point or (None, None)
    code = None if mask is None else coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "method": method,
        "draw": draw,
        "sample_id": sample.sample_id,
        "image_id": group.image_id,
        "ref_id": sample.ref_id,
        "expression": sample.expression,
        "heads": " ".join(str(head) for head in heads),
        "x0": x0,
        "y0": y0,
        "x1": x1,
        "y1": y1,
        "peak_x": peak_x,
        "peak_y": peak_y,
        "mask_counts": None if code is None else code["counts"].decode("ascii"),
        "mask_height": group.height,
        "mask_width": group.width,
        "error": error,
        **dict.fromkeys(MAP_METRICS),
    }
