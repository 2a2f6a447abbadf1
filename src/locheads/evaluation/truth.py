"""What predictions are scored against: everything that is asked of a sample, worked out once."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from pycocotools import mask as coco

from locheads.evaluation.map_metrics import MAP_METRICS, OF_NOTHING
from locheads.evaluation.metric_table import POINTS, WITHOUT_MAP
from locheads.evaluation.metrics import box_iou, inside, mask_intersection_union
from locheads.evaluation.slices import FACTS, facts
from locheads.evaluation.swapped import box_shares, partners, swapped_pointing
from locheads.types import ImageGroup

_BOX = ["x0", "y0", "x1", "y1"]


class Truth:
    """The samples of some groups; scores predictions about them, all at once or a batch at a time."""

    def __init__(self, groups: Iterable[ImageGroup]) -> None:
        groups = list(groups)
        samples = [sample for group in groups for sample in group.samples]
        self._masks = [sample.mask for sample in samples]
        self._areas = [int(coco.area(mask)) for mask in self._masks]
        self._boxes = np.array([sample.box for sample in samples], dtype=np.float64).reshape(-1, 4)
        sizes = [(group.width, group.height) for group in groups for _ in group.samples]
        self._position = {sample.sample_id: i for i, sample in enumerate(samples)}
        self._partners = partners(groups)
        table = [facts(sample, area) for sample, area in zip(samples, self._areas, strict=True)]
        self._facts = pd.DataFrame(table, columns=list(FACTS))
        self._facts["chance"] = box_shares(samples)
        self._facts[["image_width", "image_height"]] = np.array(sizes, dtype=np.float64).reshape(-1, 2)

    def score(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """One row per prediction: box_iou, intersection, union (pixels), pointed, swapped, chance, MAP_METRICS, the
        true box, the peak, the image's size and FACTS.

        A prediction without a box or mask scores 0: its union is the object's own area. `swapped`: whether the map
        of another expression about the image points at this object; NaN where these predictions hold none.
        `chance`: the share of the image in the object's box. MAP_METRICS: OF_NOTHING where the map failed, NaN of
        methods that have none.
        """
        rows = np.array([self._position[key] for key in predictions["sample_id"]], dtype=int)
        boxes = predictions[_BOX].to_numpy(dtype=float)
        true_boxes = self._boxes[rows]
        overlaps = self._overlaps(predictions, rows)
        scores = predictions[["method", "draw", "sample_id", "image_id", "error"]].copy()
        points = predictions[["peak_x", "peak_y"]].to_numpy(dtype=float)
        is_point = (predictions["method"] == POINTS).to_numpy()
        given: np.ndarray = np.where(is_point[:, None], points[:, [0, 1, 0, 1]], boxes)
        scores["answered"] = ~np.isnan(given).any(axis=1)
        scores["box_iou"] = box_iou(boxes, true_boxes)
        scores["intersection"], scores["union"] = overlaps[:, 0], overlaps[:, 1]
        scores["pointed"] = inside(points, true_boxes)
        without = predictions["method"].isin(WITHOUT_MAP)
        scores["swapped"] = np.where(without, np.nan, swapped_pointing(predictions, true_boxes, self._partners))
        scores[[f"true_{key}" for key in _BOX]] = true_boxes
        scores[["peak_x", "peak_y"]] = points
        scores[[*self._facts]] = self._facts.iloc[rows].set_axis(scores.index)
        found = predictions.reindex(columns=list(MAP_METRICS)).astype(float)
        scores[list(MAP_METRICS)] = found.where(without, found.fillna(OF_NOTHING))
        return scores

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
