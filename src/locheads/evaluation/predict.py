"""What the heads and the baselines answer about one image."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, repeat

import numpy as np
from jaxtyping import Float, Int

from locheads.data.image_files import read_heat
from locheads.data.image_groups import may_name_several
from locheads.data.masks import box_code, decoded
from locheads.evaluation.heat_metrics import heat_scores, on_square, truth_on_square
from locheads.evaluation.map_metrics import PerMap, map_scores
from locheads.evaluation.methods import HeadPlan, centre_box, heads_maps, methods_of
from locheads.evaluation.metric_table import CENTRE_BOX, DIRECT_OUTPUT
from locheads.evaluation.rows import Row, candidate_columns, mask_counts, prediction_row
from locheads.geometry import Geometry
from locheads.grounding.boxes import Frames, peaks
from locheads.grounding.candidates import candidates
from locheads.grounding.config import GroundingConfig, Resolution
from locheads.grounding.ground_maps import ground_stack
from locheads.segmenters.prompting import FusedMap
from locheads.types import Attention, Box, ImageGroup, Sample

LOST = "the attention store lost it while the run was going on"


def predict(
    group: ImageGroup,
    attentions: Iterable[Attention],
    plan: HeadPlan,
    config: GroundingConfig,
    failures: Mapping[str, str],
    with_maps: bool = False,
) -> Iterator[Row]:
    """Rows of all methods for one image's expressions. `with_maps`: each with its fused map, for a segmenter's prompt.

    A sample without attention still gets its rows, empty and with the reason that `failures` (sample id -> reason)
    gives, so that it counts as a miss of every method.
    """
    without = {sample.sample_id: sample for sample in group.samples}
    places = [(attention, row) for attention in attentions for row in range(len(attention.sample_ids))]
    for geometry, alike in groupby(places, lambda place: place[0].geometry):
        stored = list(alike)
        samples = [without.pop(attention.sample_ids[row]) for attention, row in stored]
        # On the grid all samples are one stack; on the lattice of an image that would be too large.
        step = len(samples) if config.resolution == Resolution.grid else 1
        for start in range(0, len(samples), step):
            part = slice(start, start + step)
            for row, fused in _rows(group, samples[part], stored[part], geometry, plan, config):
                yield row | {"fused": fused} if with_maps else row
    for sample_id, sample in without.items():
        reason = failures.get(sample_id, LOST)
        methods = [(method, draw) for method, draw, _ in methods_of(plan, sample_id)]
        methods += [(CENTRE_BOX, 0)] * (plan.baselines and sample.heat is None)
        yield from (prediction_row(group, sample, m, draw=draw, error=reason) for m, draw in methods)


def direct_row(group: ImageGroup, sample: Sample, box: Box | None, error: str | None = None) -> Row:
    """What the LVLM itself answered: its box, which also stands for the mask."""
    counts = None if box is None else _box_counts(group, box)
    return prediction_row(group, sample, DIRECT_OUTPUT, box=box, counts=counts, error=error)


def _box_counts(group: ImageGroup, box: Box) -> str:
    code = box_code(box, group.width, group.height)
    return mask_counts(np.zeros((group.height, group.width), dtype=bool)) if code is None else str(code["counts"])


def _rows(
    group: ImageGroup,
    samples: list[Sample],
    places: list[tuple[Attention, int]],
    geometry: Geometry,
    plan: HeadPlan,
    config: GroundingConfig,
) -> Iterator[tuple[Row, FusedMap | None]]:
    """All methods of all samples are one stack; what cannot be grounded takes part as a map of zeros."""
    methods = [methods_of(plan, sample.sample_id) for sample in samples]
    asked = [(*place, heads) for place, own in zip(places, methods, strict=True) for _, _, heads in own]
    maps, sinks, errors = heads_maps(asked, (geometry.rows, geometry.cols), plan.sinks)
    stack = ground_stack(maps, (geometry,) * len(asked), config, sinks)
    truth = np.repeat(np.arange(len(samples)), [len(own) for own in methods])
    scores = _scores_of_maps(stack.fused, geometry, samples, truth)
    points = peaks(stack.fused, Frames.of([geometry]))
    maps_of = (FusedMap(fused, geometry) for fused in stack.fused)
    answers = zip(
        errors, maps_of, map(stack.box, range(len(asked))), points.tolist(), stack.mask_codes(),
        zip(*(values.tolist() for values in scores.values()), strict=True), strict=True,
    )  # fmt: skip
    several = may_name_several([group])
    found_of = iter(map(candidate_columns, candidates(stack))) if several else repeat({})
    centre = centre_box(group)
    centre_counts = _box_counts(group, centre)
    for sample, own in zip(samples, methods, strict=True):
        for (method, draw, heads), (error, fused, box, point, counts, values), more in zip(own, answers, found_of):  # noqa: B905
            if error is not None:
                yield prediction_row(group, sample, method, draw=draw, heads=heads or (), error=error), None
                continue
            at = None if np.isnan(point[0]) else (point[0], point[1])
            found = prediction_row(
                group, sample, method, draw=draw, heads=heads or (), box=box, counts=counts, point=at
            )
            yield found | dict(zip(scores, values, strict=True)) | more, fused
        if plan.baselines and sample.heat is None:
            yield prediction_row(group, sample, CENTRE_BOX, box=centre, counts=centre_counts), None


def _scores_of_maps(
    fused: Float[np.ndarray, "n row col"], geometry: Geometry, samples: Sequence[Sample], truth: Int[np.ndarray, "n"]
) -> dict[str, PerMap]:
    """How well each map lies on its truth; `truth`: which of the samples that is of."""
    if samples[0].heat is not None:
        heats = np.array([truth_on_square(read_heat(sample.heat)) for sample in samples if sample.heat is not None])
        return heat_scores(on_square(fused, geometry), heats[truth])
    covered = {counts: geometry.coverage(mask) for counts, mask in decoded(samples).items()}
    coverage = np.array([covered[str(sample.mask["counts"])] for sample in samples])
    boxes = np.array([sample.box for sample in samples], dtype=np.float64)
    return map_scores(fused, geometry, boxes[truth], coverage[truth])
