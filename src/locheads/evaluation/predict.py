"""What the heads and the baselines answer about one image."""

from collections.abc import Iterable, Iterator, Mapping

from pycocotools import mask as coco

from locheads.evaluation.map_metrics import map_scores
from locheads.evaluation.methods import HeadPlan, box_mask, centre_mask, ground_with, methods_of
from locheads.evaluation.metric_table import CENTRE_BOX, DIRECT_OUTPUT
from locheads.evaluation.metrics import peak
from locheads.evaluation.rows import Row, mask_counts, prediction_row
from locheads.grounding.config import GroundingConfig
from locheads.types import Attention, Box, CompactAttention, ImageGroup, Sample


def predict(
    group: ImageGroup,
    attentions: Iterable[Attention | CompactAttention],
    plan: HeadPlan,
    config: GroundingConfig,
    failures: Mapping[str, str],
) -> Iterator[Row]:
    """Rows of all methods for one image's expressions.

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
        yield from (prediction_row(group, sample, m, draw=draw, error=reason) for m, draw in methods)


def direct_row(group: ImageGroup, sample: Sample, box: Box | None, error: str | None = None) -> Row:
    """What the LVLM itself answered: its box, which also stands for the mask."""
    counts = None if box is None else mask_counts(box_mask(group, box))
    return prediction_row(group, sample, DIRECT_OUTPUT, box=box, counts=counts, error=error)


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
            yield prediction_row(group, sample, method, draw=draw, heads=heads or (), error=str(error))
            continue
        counts, point = mask_counts(answer.mask), peak(answer.heatmap, answer.geometry)
        scores = map_scores(answer.heatmap, answer.geometry, sample.box, coverage)
        found = prediction_row(
            group, sample, method, draw=draw, heads=heads or (), box=answer.box, counts=counts, point=point
        )
        yield found | scores
    box, mask = centre_mask(group)
    yield prediction_row(group, sample, CENTRE_BOX, box=box, counts=mask_counts(mask))
