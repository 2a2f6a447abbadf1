"""What predictions are scored against: everything that is asked of a sample, worked out once.

With the control that swaps the expression and keeps the image: do the maps follow the words, or the image? For every
sample, the map of another expression about the same image (one that means another object) is held against the sample's
own object. Heads that follow the words point at it no more often than chance; heads that mark whatever stands out do so
as often as before. It costs no forward pass: both expressions were asked anyway.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float
from pycocotools import mask as coco

from locheads.data.image_groups import may_name_several
from locheads.data.masks import boxes_code
from locheads.data.prediction_files import Answer
from locheads.evaluation.heat_metrics import OF_NO_HEAT
from locheads.evaluation.map_metrics import OF_NOTHING
from locheads.evaluation.metric_table import OBJECTS, POINTS, PREDICTIONS, WITHOUT_MAP
from locheads.evaluation.metrics import box_iou, inside, mask_intersection_union, touching
from locheads.evaluation.phrase_metrics import best_box_iou, resized_mask_iou
from locheads.evaluation.rows import OF_CANDIDATES, Row, candidate_cells, prediction_row
from locheads.evaluation.several import answered_boxes, points_at, score_boxes, union_share
from locheads.evaluation.several_formulas import FAILED, mask_iou
from locheads.evaluation.slices import BETWEEN_KINDS, FACTS, facts
from locheads.types import Box, ImageGroup, Sample

T = TypeVar("T")

BATCH = 2_000
"""Answers whose masks are in memory at once."""
_BOX = ["x0", "y0", "x1", "y1"]


class Truth:
    """The samples of some groups; scores predictions about them, all at once or a batch at a time."""

    def __init__(self, groups: Iterable[ImageGroup]) -> None:
        groups = list(groups)
        samples = [sample for group in groups for sample in group.samples]
        self._masks = [sample.mask for sample in samples]
        self._areas = [int(coco.area(mask)) for mask in self._masks]
        self._boxes = np.array([sample.box for sample in samples], dtype=np.float64).reshape(-1, 4)
        self._objects = [sample.objects for sample in samples] if may_name_several(groups) else None
        sizes = [(group.width, group.height) for group in groups for _ in group.samples]
        self._position = {sample.sample_id: i for i, sample in enumerate(samples)}
        self._partners = partners(groups)
        table = [facts(sample, area) for sample, area in zip(samples, self._areas, strict=True)]
        self._facts = pd.DataFrame(table, columns=list(FACTS))
        self._heat = any(sample.heat is not None for sample in samples)
        if not self._heat:
            self._facts["chance"] = box_shares(samples)
        if any(sample.kinds for sample in samples):
            self._facts["kinds"] = [BETWEEN_KINDS.join(sample.kinds) for sample in samples]
        self._alternatives = [s.alternatives for s in samples] if any(s.alternatives for s in samples) else None
        self._mask_sides = [sample.mask_side for sample in samples] if any(s.panoptic for s in samples) else None
        self._screens = any(sample.screen for sample in samples)
        self._facts[["image_width", "image_height"]] = np.array(sizes, dtype=np.float64).reshape(-1, 2)

    def score(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """One row per prediction: box_iou, intersection, union (pixels), pointed, swapped, chance, MAP_METRICS, the
        true box, the peak, the image's size and FACTS. Of screens also clicked and clicked_centre, of samples that have
        kinds these, of phrases of captions best_box_iou or segment_iou; where expressions may name several objects or
        none, what `_score_several` adds. Where the truth is a heat map HEAT_METRICS stand for all that boxes and
        masks give.

        A prediction without a box or mask scores 0: its union is the object's own area. `swapped`: whether the map
        of another expression about the image points at this object; NaN where these predictions hold none.
        `chance`: the share of the image in the object's box. MAP_METRICS: OF_NOTHING where the map failed, NaN of
        methods that have none.
        """
        rows = np.array([self._position[key] for key in predictions["sample_id"]], dtype=int)
        boxes = predictions[_BOX].to_numpy(dtype=float)
        scores = predictions[["method", "draw", "sample_id", "image_id", "error"]].copy()
        points = predictions[["peak_x", "peak_y"]].to_numpy(dtype=float)
        is_point = (predictions["method"] == POINTS).to_numpy() | self._heat
        answers: np.ndarray = np.where(is_point[:, None], points[:, [0, 1, 0, 1]], boxes)
        scores["answered"] = ~np.isnan(answers).any(axis=1)
        if not self._heat:
            scores = scores.assign(**self._of_objects(predictions, rows, boxes, points))
        scores[["peak_x", "peak_y"]] = points
        scores[[*self._facts]] = self._facts.iloc[rows].set_axis(scores.index)
        of_nothing = OF_NO_HEAT if self._heat else OF_NOTHING
        found = predictions.reindex(columns=list(of_nothing)).astype(float)
        without = predictions["method"].isin(WITHOUT_MAP)
        scores[list(of_nothing)] = found.where(without, found.fillna(of_nothing))
        if self._objects is not None:
            self._score_several(scores, predictions, rows, [self._objects[row] for row in rows])
        return scores

    def _of_objects(
        self, predictions: pd.DataFrame, rows: np.ndarray, boxes: np.ndarray, points: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The columns that a truth with a box and a mask gives."""
        true_boxes, overlaps = self._boxes[rows], self._overlaps(predictions, rows)
        objects = None if self._objects is None else [self._objects[row] for row in rows]
        without = predictions["method"].isin(WITHOUT_MAP)
        swapped = swapped_pointing(predictions, true_boxes, self._partners, objects)
        return {
            "box_iou": box_iou(boxes, true_boxes),
            "intersection": overlaps[:, 0],
            "union": overlaps[:, 1],
            "pointed": inside(points, true_boxes) if objects is None else points_at(points, objects),
            **self._of_some_data(predictions, rows, boxes, points, overlaps),
            "swapped": np.where(without, np.nan, swapped),
            **dict(zip((f"true_{key}" for key in _BOX), true_boxes.T, strict=True)),
        }

    def _of_some_data(
        self, predictions: pd.DataFrame, rows: np.ndarray, boxes: np.ndarray, points: np.ndarray, overlaps: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The columns that only screens and phrases of captions have."""
        found: dict[str, np.ndarray] = {}
        if self._screens:
            found["clicked"] = touching(points, self._boxes[rows])
            found["clicked_centre"] = touching((boxes[:, :2] + boxes[:, 2:]) / 2, self._boxes[rows])
        if self._alternatives is not None:
            found["best_box_iou"] = best_box_iou(boxes, [self._alternatives[row] for row in rows])
        if self._mask_sides is not None:
            sides = [self._mask_sides[row] for row in rows]
            found["segment_iou"] = self._segment_iou(predictions, rows, overlaps, sides)
        return found

    def _score_several(
        self, scores: pd.DataFrame, predictions: pd.DataFrame, rows: np.ndarray, objects: list[tuple[Box, ...]]
    ) -> None:
        """Adds OBJECTS, and what is answered beside it: how many boxes, whether they are right, pixels of masks."""
        scores[OBJECTS] = [len(own) for own in objects]
        answers = answered_boxes(predictions)
        scores["n_answered"] = [FAILED if own is None else len(own) for own in answers]
        for name, right in score_boxes(answers, objects).items():
            scores[name] = right
        masks = predictions.reindex(columns=["objects_mask"])["objects_mask"].fillna(predictions["mask_counts"])
        masked = predictions.assign(mask_counts=masks)
        scores[["objects_intersection", "objects_union"]] = self._overlaps(masked, rows)
        scores["object_pixels"] = np.array(self._areas)[rows]

    def _overlaps(self, predictions: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
        """[n, 2]: intersection and union in pixels. Masks stay in run-length code."""
        result = np.zeros((len(rows), 2), dtype=np.int64)
        columns = (predictions[key].tolist() for key in ("mask_counts", "mask_height", "mask_width"))
        for i, (row, counts, height, width) in enumerate(zip(rows.tolist(), *columns, strict=True)):
            if isinstance(counts, str):
                code = {"size": [height, width], "counts": counts}
                result[i] = mask_intersection_union(code, self._masks[row], self._areas[row])
            else:
                result[i] = 0, self._areas[row]
        return result

    def _segment_iou(
        self, predictions: pd.DataFrame, rows: np.ndarray, overlaps: np.ndarray, sides: list[int | None]
    ) -> np.ndarray:
        """[n]: of the masks as they are, or resized to squares of these sides and back."""
        ious = mask_iou(overlaps[:, 0], overlaps[:, 1])
        columns = (predictions[key].tolist() for key in ("mask_counts", "mask_height", "mask_width"))
        for i, (row, side, counts, height, width) in enumerate(zip(rows.tolist(), sides, *columns, strict=True)):
            if side is not None and isinstance(counts, str):
                ious[i] = resized_mask_iou({"size": [height, width], "counts": counts}, self._masks[row], side)
        return ious


def score_answers(
    answers: Iterable[Answer], groups: list[ImageGroup], absent: str, method: str = PREDICTIONS
) -> Iterator[tuple[list[Row], pd.DataFrame]]:
    """(rows, their scores), in batches.

    Answers about other samples than those of the groups are skipped. A sample without an answer comes last, with
    the reason `absent`, and counts as a miss. `method`: PREDICTIONS, or POINTS of a file of points.
    """
    truth, several = Truth(groups), may_name_several(groups)
    missing = {sample.sample_id: (group, sample) for group in groups for sample in group.samples}
    for part in _batches(answers):
        rows = [_row(*missing.pop(a.sample_id), a, method, several) for a in part if a.sample_id in missing]
        if rows:
            yield rows, truth.score(pd.DataFrame(rows))
    for rest in _batches(list(missing.values())):
        rows = [_row(*each, Answer(each[1].sample_id, None, None), method, several, absent) for each in rest]
        yield rows, truth.score(pd.DataFrame(rows))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, BATCH)):
        yield part


def _row(
    group: ImageGroup, sample: Sample, answer: Answer, method: str, several: bool, error: str | None = None
) -> Row:
    """`several`: with the cells of OF_CANDIDATES where the answer says how many boxes it is."""
    counts = None if answer.mask is None else str(answer.mask["counts"])
    row = prediction_row(group, sample, method, box=answer.box, counts=counts, point=answer.point, error=error)
    if not several:
        return row
    if (found := answer.all) is None:
        return row | dict.fromkeys(OF_CANDIDATES.names)
    mask = None
    if not found.own_mask:
        mask = str(boxes_code(found.boxes[: found.n_answered], group.width, group.height)["counts"])
    return row | candidate_cells(found.boxes, found.scores, found.n_answered, mask)


def partners(groups: Iterable[ImageGroup]) -> dict[str, str]:
    """Sample id -> id of the next sample of its image that means another object. Absent where there is none."""
    found = {}
    for group in groups:
        for i, sample in enumerate(group.samples):
            after = group.samples[i + 1 :] + group.samples[:i]
            other = next((s for s in after if s.is_apart_from(sample)), None)
            if other is not None:
                found[sample.sample_id] = other.sample_id
    return found


def swapped_pointing(
    predictions: pd.DataFrame,
    true_boxes: Float[np.ndarray, "n 4"],
    partner_of: dict[str, str],
    objects: Sequence[Sequence[Box]] | None = None,
) -> Float[np.ndarray, "n"]:
    """Per row of `predictions` 1 where its partner's peak lies in the row's own object (or one of its `objects`, where
    there may be several), else 0.

    NaN where the sample has no partner, or the table no row of that partner by the same method and draw.
    """
    methods, draws, ids = (predictions[key].tolist() for key in ("method", "draw", "sample_id"))
    row_of = {key: row for row, key in enumerate(zip(methods, draws, ids, strict=True))}
    others = (partner_of.get(sample_id) for sample_id in ids)
    partner = np.array([row_of.get(key, -1) for key in zip(methods, draws, others, strict=True)], dtype=int)
    peaks = predictions[["peak_x", "peak_y"]].to_numpy(dtype=float)[partner]
    hits = inside(peaks, true_boxes) if objects is None else points_at(peaks, objects)
    return np.where(partner < 0, np.nan, hits)


def box_shares(samples: Iterable[Sample]) -> Float[np.ndarray, "n"]:
    """Share of its image that each sample's boxes cover: how often a random point of it would lie in one."""
    shares = []
    for sample in samples:
        height, width = np.array(sample.mask["size"], dtype=float)
        if sample.boxes is not None:
            shares.append(union_share(sample.boxes, int(width), int(height)))
            continue
        # Within the image: boxes of data sets may leave it, but no point does.
        x0, y0, x1, y1 = np.clip(sample.box, 0, [width, height, width, height])
        shares.append((x1 - x0) * (y1 - y0) / (height * width))
    return np.array(shares)
