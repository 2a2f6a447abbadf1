"""Every method and every metric, one entry each: what it is called, what it is made of, where it is shown.

A new metric is an entry of METRICS and a test. metrics.json, the terminal, the page, stage=compare, the audit, W&B and
the studies follow from the entry.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum, Flag, auto
from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

OTHER_THRESHOLDS = (0.25, 0.75)
"""Of box IoU, beside 0.5: REC's Acc@t, the share of expressions whose box IoU is at least t.

At least, not above: so do the data set's authors (MAttNet `eval_dets_utils.py`), TransVG's test, Qwen-VL, InternVL,
lmms-eval and PaliGemma (big_vision `segmentation.py`); Shikra and MiniGPT-4 count `> 0.5`. It matters only where an IoU
is exactly the threshold.
"""
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Of mask IoU: RES's Pr@t, the share of expressions whose mask IoU is at least t (LAVT, CVPR 2022)."""
ABSENT = "\N{EN DASH}"
"""Stands where there is no number."""


class Outputs(Flag):
    """What a method answers to an expression."""

    BOX = auto()
    MASK = auto()
    POINT = auto()
    """A place in the image: the peak of a map, or a point of a file."""
    MAP = auto()
    """A map over the whole image."""


_AREA, _ALL = Outputs.BOX | Outputs.MASK, Outputs.BOX | Outputs.MASK | Outputs.POINT | Outputs.MAP


@dataclass(frozen=True)
class Method:
    """A way of answering."""

    label: str
    outputs: Outputs
    with_truth: bool = False
    """Chosen with the ground truth of the discovery samples: a ceiling, no baseline. Its label has a star."""
    own: bool = False
    """What a run may be about; the others are what it is compared with."""


LOCALIZATION_HEADS, BEST_REC_HEADS, BEST_IOU_HEADS = "localization_heads", "best_rec_heads", "best_iou_heads"
FIRST_LOOK = "first_look"
MEAN_OF_ALL_HEADS, RANDOM_HEADS, CENTRE_BOX = "mean_of_all_heads", "random_heads", "centre_box"
PREDICTIONS, POINTS, DIRECT_OUTPUT = "predictions", "points", "direct_output"

METHODS = {
    LOCALIZATION_HEADS: Method("Localization heads", _ALL, own=True),
    PREDICTIONS: Method("Predictions of a file", _AREA, own=True),
    POINTS: Method("Points of a file", Outputs.POINT, own=True),
    DIRECT_OUTPUT: Method("Asked for the box", _AREA, own=True),
    FIRST_LOOK: Method("Their first look", _ALL),
    BEST_REC_HEADS: Method("Best set by REC", _ALL, with_truth=True),
    BEST_IOU_HEADS: Method("Best heads by IoU", _ALL, with_truth=True),
    MEAN_OF_ALL_HEADS: Method("Mean of all heads", _ALL),
    RANDOM_HEADS: Method("Random heads", _ALL),
    CENTRE_BOX: Method("Centre box", _AREA),
}
"""In the order of the tables."""
OWN_METHODS = tuple(name for name, method in METHODS.items() if method.own)
WITHOUT_MAP = tuple(name for name, method in METHODS.items() if Outputs.MAP not in method.outputs)


def method_label(name: str) -> str:
    """With a star where the method was chosen with ground truth; an unknown method's own name."""
    return METHODS[name].label + (" *" if METHODS[name].with_truth else "") if name in METHODS else name


class Unit(Enum):
    """(shown times so much, with so many decimals)."""

    PERCENT = (100.0, 1)
    NATS = (1.0, 2)
    DEVIATIONS = (1, 2)
    """Standard deviations."""

    def text(self, value: float, sign: str = "") -> str:
        """0.532 in percent -> "53.2"; a dash for NaN. `sign`: "+" shows the sign of a positive number."""
        scale, decimals = self.value
        return f"{scale * value:{sign}.{decimals}f}" if isfinite(value) else ABSENT


def percent(value: float) -> str:
    """0.532 -> "53.2"."""
    return Unit.PERCENT.text(value)


class Place(Flag):
    """Where a metric is shown; metrics.json and W&B's `METHOD/METRIC` have all."""

    TERMINAL = auto()
    PAGE = auto()
    """The page's first table, and the table of a sweep."""
    DETAILS = auto()
    """The page's second table."""
    SLICES = auto()
    """The tables by slices, and their part of metrics.json."""
    COMPARE = auto()
    AUDIT = auto()
    SUMMARY = auto()
    """W&B's summary under `name`, which `wandb sweep` can optimise."""
    STUDIES = auto()
    """The studies without figures of the paper: models, prompts, preprocessing."""


EVERYWHERE = ~Place.DETAILS


@dataclass(frozen=True)
class Metric:
    """The ratio of two sums over expressions. A mean has denominators of 1."""

    key: str
    """In metrics.json."""
    label: str
    heading: str
    """Of a narrow column: two lines."""
    needs: Outputs
    """A method that gives less has no such metric."""
    columns: tuple[str, ...]
    """Of scores.parquet, which the functions take in this order. Where one is absent, so is the metric."""
    above: Callable[..., ArrayLike]
    """Columns -> numerator per row."""
    below: Callable[..., ArrayLike] | None = None
    """Columns -> denominator per row; None: 1."""
    note: str = ""
    """What the page says below the table."""
    shown: Place = EVERYWHERE
    name: str = ""
    """Where only letters, digits and _ are allowed (W&B, studies); the key where it is empty."""
    unit: Unit = Unit.PERCENT
    higher_is_better: bool = True
    bounded: bool = True
    """Lies in [0, 1]: Wilson's interval, else Student's."""
    primary: bool = False
    """One of the two numbers of the paper's tables: charts and differences show it, terminals with its interval."""
    min_width: int = 0
    """Columns of a terminal that is wide enough for it."""

    def parts(self, rows: Any) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """Numerators and denominators per row of a table of scores: column -> values."""
        columns = [np.asarray(rows[name]) for name in self.columns]
        above = np.asarray(self.above(*columns), dtype=np.float64)
        return above, np.ones(len(above)) if self.below is None else np.asarray(self.below(*columns), dtype=np.float64)

    @property
    def plain_name(self) -> str:
        return self.name or self.key


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _mask_iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """0 for an empty union."""
    return intersection / np.where(union > 0, union, 1)


def _box_iou_from(threshold: float) -> Callable[..., ArrayLike]:
    return lambda iou: iou >= threshold


def _mask_iou_from(threshold: float) -> Callable[..., ArrayLike]:
    return lambda intersection, union: _mask_iou(intersection, union) >= threshold


def _near(pointed: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Whether the peak lies in the true box (x1 and y1 exclusive), or no further from it than 5 % of the image's
    diagonal, all in pixels of the image: the Euclidean distance to the box's nearest point. A map that points nowhere
    (NaN) is a miss. The pointing game's tolerance (15 pixels in Zhang et al., ECCV 2016), at every size of image alike.
    """
    x, y, x0, y0, x1, y1, width, height = columns
    away = np.hypot(np.maximum(np.maximum(x0 - x, x - x1), 0), np.maximum(np.maximum(y0 - y, y - y1), 0))
    return pointed.astype(bool) | (away <= 0.05 * np.hypot(width, height))


_MASKS = ("intersection", "union")
_WITHOUT_STUDIES = EVERYWHERE & ~(Place.STUDIES | Place.SUMMARY)

METRICS = (
    Metric("rec_acc@0.5", "REC Acc@0.5", "REC\nAcc@0.5", Outputs.BOX, ("box_iou",), _box_iou_from(0.5),
           name="rec_acc50", primary=True,
           note="REC compares boxes: Acc@t is the share of expressions whose box has at least IoU t with the true "
                "box."),
    *(
        Metric(f"rec_acc@{t}", f"REC Acc@{t}", f"Acc\n@{t}", Outputs.BOX, ("box_iou",), _box_iou_from(t),
               shown=Place.TERMINAL | Place.PAGE | Place.AUDIT, min_width=100)
        for t in OTHER_THRESHOLDS
    ),
    Metric("rec_acc@0.9", "REC Acc@0.9", "Acc\n@0.9", Outputs.BOX, ("box_iou",), _box_iou_from(0.9),
           shown=Place.DETAILS),
    Metric("rec_mean_iou", "REC mean IoU", "mean\nIoU", Outputs.BOX, ("box_iou",), _same, shown=_WITHOUT_STUDIES),
    # cIoU (LISA; LAVT: overall IoU) weighs large objects more; mIoU (LISA: gIoU) weighs all alike.
    Metric("res_ciou", "RES cIoU", "RES\ncIoU", Outputs.MASK, _MASKS, lambda i, u: i, lambda i, u: u, primary=True,
           note="RES compares masks: cIoU is the sum of all intersections over the sum of all unions, mIoU the mean "
                "over expressions."),
    Metric("res_miou", "RES mIoU", "\nmIoU", Outputs.MASK, _MASKS, _mask_iou, shown=_WITHOUT_STUDIES),
    *(
        Metric(f"res_pr@{t}", f"RES Pr@{t}", f"\nPr@{t}", Outputs.MASK, _MASKS, _mask_iou_from(t), shown=Place.DETAILS,
               note="Pr@t is the share of expressions whose mask has at least IoU t." if t == 0.5 else "")
        for t in PRECISIONS
    ),
    Metric("pointing", "Pointing", "point-\ning", Outputs.POINT, ("pointed",), _same, shown=_WITHOUT_STUDIES,
           note="Pointing is the share whose fused map has its maximum inside the object."),
    Metric("pointing_5pct", "Pointing within 5 %", "\n±5 %", Outputs.POINT,
           ("pointed", "peak_x", "peak_y", "true_x0", "true_y0", "true_x1", "true_y1", "image_width", "image_height"),
           _near, min_width=108,
           note="Pointing within 5 % also counts a maximum no further from the true box than 5 % of the image's "
                "diagonal."),
    Metric("pointing_swapped", "Pointing, expression swapped", "\nswapped", Outputs.MAP, ("swapped",), np.nan_to_num,
           lambda swapped: ~np.isnan(swapped), shown=Place.PAGE, higher_is_better=False),
    Metric("pointing_chance", "Pointing by chance", "\nchance", Outputs.POINT, ("chance",), _same, shown=Place.PAGE),
    Metric("map_energy", "Energy in the box", "\nenergy", Outputs.MAP, ("map_energy",), _same, shown=Place.DETAILS,
           note="The others compare the fused map with the object's mask on the patch grid: the share of the map's "
                "energy in the true box, the similarity (SIM) and the Kullback-Leibler divergence (KLD, lower is "
                "better) of the two distributions, and the map's mean standard score on the object (NSS, 0 is "
                "chance). A failed map scores 0, and 36.04 in KLD."),
    Metric("map_kld", "KLD (nats)", "KLD\nnats", Outputs.MAP, ("map_kld",), _same, shown=Place.DETAILS,
           unit=Unit.NATS, higher_is_better=False, bounded=False),
    Metric("map_sim", "SIM", "\nSIM", Outputs.MAP, ("map_sim",), _same, shown=Place.DETAILS),
    Metric("map_nss", "NSS", "\nNSS", Outputs.MAP, ("map_nss",), _same, shown=Place.DETAILS, unit=Unit.DEVIATIONS,
           bounded=False),
)  # fmt: skip
"""In the order of files and tables."""

METRIC = {metric.key: metric for metric in METRICS}
PRIMARY = tuple(metric.key for metric in METRICS if metric.primary)


def shown(place: Place) -> dict[str, Metric]:
    """The metrics of a place, by key, in the order of the table."""
    return {metric.key: metric for metric in METRICS if metric.shown & place}


def measured(method: str, columns: Collection[str]) -> Iterator[Metric]:
    """The metrics that a method's answers have, where the scores have these columns."""
    outputs = METHODS[method].outputs
    return (metric for metric in METRICS if metric.needs in outputs and set(metric.columns) <= set(columns))
