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

from locheads.evaluation import several_formulas as several

OTHER_THRESHOLDS = (0.25, 0.75)
"""Of box IoU, beside 0.5: REC's Acc@t, the share of expressions whose box IoU is at least t.

At least, not above: so do the data set's authors (MAttNet `eval_dets_utils.py`), TransVG's test, Qwen-VL, InternVL,
lmms-eval and PaliGemma (big_vision `segmentation.py`); Shikra and MiniGPT-4 count `> 0.5`. It matters only where an IoU
is exactly the threshold.
"""
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Of mask IoU: RES's Pr@t, the share of expressions whose mask IoU is at least t (LAVT, CVPR 2022)."""
_THRESHOLDS = np.arange(0, 1, 0.00001)
"""Of mask IoU, those of PNG's average recall (BCV-Uniandes/PNG `baseline/utils/meters.py`, which F-LMM copies)."""
_WIDTHS_BELOW = np.concatenate([[0.0], np.cumsum(np.diff(_THRESHOLDS))])
"""By how many thresholds are reached, the last left out as there: the sum of the distances to the next ones."""
GRES_PRECISIONS = (0.7, 0.8, 0.9)
"""Of GRES's Pr@t, over the expressions that name something (ReLA)."""
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
    ABSENCE = auto()
    """How much speaks for "it is not there"."""


_AREA, _ALL = Outputs.BOX | Outputs.MASK, Outputs.BOX | Outputs.MASK | Outputs.POINT | Outputs.MAP


@dataclass(frozen=True)
class Method:
    """A way of answering."""

    label: str
    outputs: Outputs
    with_truth: bool = False
    """Chosen with the ground truth of the discovery samples: no baseline. Its label has a star."""
    own: bool = False
    """What a run may be about; the others are what it is compared with."""


LOCALIZATION_HEADS, BEST_REC_HEADS, BEST_IOU_HEADS = "localization_heads", "best_rec_heads", "best_iou_heads"
FIRST_LOOK = "first_look"
MEAN_OF_ALL_HEADS, RANDOM_HEADS, CENTRE_BOX = "mean_of_all_heads", "random_heads", "centre_box"
PREDICTIONS, POINTS, DIRECT_OUTPUT = "predictions", "points", "direct_output"

METHODS = {
    LOCALIZATION_HEADS: Method("Localization heads", _ALL | Outputs.ABSENCE, own=True),
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
    # As the papers on AGD20K print all three measures.
    THOUSANDTHS = (1.0, 3)

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


class Named(Enum):
    """Of which expressions a metric speaks, where the data set says how many objects each names."""

    ANY = 0
    SOME = 1
    """Those of one object or several."""
    ONE = 2
    """Those of exactly one."""


OBJECTS = "n_objects"
"""Column of the scores: how many objects the expression names. Not there where every expression names one."""


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
    rare: bool = False
    """Of a truth that only some data sets have: see `told`."""
    main: bool = False
    """Rare, and what is compared where it was measured: see `main_metrics`."""
    of: Named = Named.SOME
    """The others have the denominator 0."""

    def parts(self, rows: Any) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """Numerators and denominators per row of a table of scores: column -> values."""
        columns = [np.asarray(rows[name]) for name in self.columns]
        above = np.asarray(self.above(*columns), dtype=np.float64)
        below = np.ones(len(above)) if self.below is None else np.asarray(self.below(*columns), dtype=np.float64)
        if OBJECTS not in rows or self.of == Named.ANY:
            return above, below
        named = np.asarray(rows[OBJECTS])
        counts = named == 1 if self.of == Named.ONE else named > 0
        return np.where(counts, above, 0.0), np.where(counts, below, 0.0)

    @property
    def of_some_data(self) -> bool:
        """Whether only some data sets can have it."""
        return self.rare or self.of == Named.ANY

    @property
    def plain_name(self) -> str:
        return self.name or self.key


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _box_iou_from(threshold: float) -> Callable[..., ArrayLike]:
    return lambda iou: iou >= threshold


def _mask_iou_from(threshold: float) -> Callable[..., ArrayLike]:
    return lambda intersection, union: several.mask_iou(intersection, union) >= threshold


def _official_iou_from(threshold: float) -> Callable[..., ArrayLike]:
    return lambda *columns: several.official_iou(*columns) >= threshold


def _near(pointed: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Whether the peak lies in the true box (x1 and y1 exclusive), or no further from it than 5 % of the image's
    diagonal, all in pixels of the image: the Euclidean distance to the box's nearest point. A map that points nowhere
    (NaN) is a miss. The pointing game's tolerance (15 pixels in Zhang et al., ECCV 2016), at every size of image alike.
    """
    x, y, x0, y0, x1, y1, width, height = columns
    away = np.hypot(np.maximum(np.maximum(x0 - x, x - x1), 0), np.maximum(np.maximum(y0 - y, y - y1), 0))
    return pointed.astype(bool) | (away <= 0.05 * np.hypot(width, height))


def _average_recall(iou: np.ndarray) -> np.ndarray:
    """What each phrase adds to the area below the curve of recall over _THRESHOLDS: its IoU, rounded up to the next
    threshold, and at most 0.99999."""
    return _WIDTHS_BELOW[np.searchsorted(_THRESHOLDS[:-1], iou, side="right")]


_MASKS = ("intersection", "union")
_ONE = Named.ONE
_ANSWERED = (OBJECTS, "n_answered")
_OBJECT_MASKS = ("objects_intersection", "objects_union")
_BY_LISA = (*_ANSWERED, *_OBJECT_MASKS, "object_pixels")
_OF_ABSENCE = Place.TERMINAL | Place.PAGE
"""Nowhere else: an expression's part is of the whole split, so that no slice, and no samples that two runs share, have
figures of their own by it."""
_OF_PROMPTS = Place.TERMINAL | Place.PAGE | Place.COMPARE
_OF_ASKED_BOX = Place.DETAILS | Place.COMPARE
_WITHOUT_STUDIES = EVERYWHERE & ~(Place.STUDIES | Place.SUMMARY)
_OF_SOME_DATA = EVERYWHERE & ~(Place.STUDIES | Place.AUDIT)
_OF_CAPTIONS = _OF_SOME_DATA & ~Place.SUMMARY

_OF_SEVERAL = _WITHOUT_STUDIES & ~Place.AUDIT
_SUMS = _OF_SEVERAL & ~Place.SLICES

METRICS = (
    Metric("rec_acc@0.5", "REC Acc@0.5", "REC\nAcc@0.5", Outputs.BOX, ("box_iou",), _box_iou_from(0.5),
           name="rec_acc50", primary=True, of=_ONE,
           note="REC compares boxes: Acc@t is the share of expressions whose box has at least IoU t with the true "
                "box."),
    *(
        Metric(f"rec_acc@{t}", f"REC Acc@{t}", f"Acc\n@{t}", Outputs.BOX, ("box_iou",), _box_iou_from(t),
               shown=Place.TERMINAL | Place.PAGE | Place.AUDIT, min_width=100, of=_ONE)
        for t in OTHER_THRESHOLDS
    ),
    Metric("rec_acc@0.9", "REC Acc@0.9", "Acc\n@0.9", Outputs.BOX, ("box_iou",), _box_iou_from(0.9),
           shown=Place.DETAILS, of=_ONE),
    Metric("rec_mean_iou", "REC mean IoU", "mean\nIoU", Outputs.BOX, ("box_iou",), _same, shown=_WITHOUT_STUDIES,
           of=_ONE),
    # cIoU (LISA; LAVT: overall IoU) weighs large objects more; mIoU (LISA: gIoU) weighs all alike.
    Metric("res_ciou", "RES cIoU", "RES\ncIoU", Outputs.MASK, _MASKS, lambda i, u: i, lambda i, u: u, primary=True,
           note="RES compares masks: cIoU is the sum of all intersections over the sum of all unions, mIoU the mean "
                "over expressions."),
    Metric("res_miou", "RES mIoU", "\nmIoU", Outputs.MASK, _MASKS, several.mask_iou, shown=_WITHOUT_STUDIES),
    *(
        Metric(f"res_pr@{t}", f"RES Pr@{t}", f"\nPr@{t}", Outputs.MASK, _MASKS, _mask_iou_from(t), shown=Place.DETAILS,
               note="Pr@t is the share of expressions whose mask has at least IoU t." if t == 0.5 else "")
        for t in PRECISIONS
    ),
    Metric("points_inside", "Prompted points inside", "points\ninside", Outputs.MASK, ("points_inside",), _same,
           shown=_OF_PROMPTS, rare=True, main=True,
           note="Points inside is the share of the points that the segmenter is given for the object which lie in its "
                "true mask; points beside, the share of those for the background which lie outside it."),
    Metric("points_beside", "Prompted points beside", "\nbeside", Outputs.MAP, ("points_beside",), _same,
           shown=_OF_PROMPTS, rare=True),
    Metric("box_covers", "Prompted box covers", "box\ncovers", Outputs.MASK, ("box_covers",), _same,
           shown=_OF_ASKED_BOX, rare=True,
           note="The box that the segmenter is asked with, margins included, covers so much of the true mask, and has "
                "this IoU with the true box."),
    Metric("asked_box_iou", "Prompted box mean IoU", "box\nIoU", Outputs.MASK, ("asked_box_iou",), _same,
           shown=_OF_ASKED_BOX, rare=True),
    Metric("pointing", "Pointing", "point-\ning", Outputs.POINT, ("pointed",), _same, shown=_WITHOUT_STUDIES,
           note="Pointing is the share whose fused map has its maximum inside the object."),
    Metric("pointing_5pct", "Pointing within 5 %", "\n±5 %", Outputs.POINT,
           ("pointed", "peak_x", "peak_y", "true_x0", "true_y0", "true_x1", "true_y1", "image_width", "image_height"),
           _near, min_width=108, of=_ONE,
           note="Pointing within 5 % also counts a maximum no further from the true box than 5 % of the image's "
                "diagonal."),
    Metric("pointing_swapped", "Pointing, expression swapped", "\nswapped", Outputs.MAP, ("swapped",), np.nan_to_num,
           lambda swapped: ~np.isnan(swapped), shown=Place.PAGE, higher_is_better=False),
    Metric("pointing_chance", "Pointing by chance", "\nchance", Outputs.POINT, ("chance",), _same, shown=Place.PAGE),
    Metric("click_acc", "Click accuracy", "click\nacc.", Outputs.POINT, ("clicked",), _same, shown=_OF_SOME_DATA,
           rare=True, main=True,
           note="Click accuracy is the share whose point, the maximum of the fused map or that of a file, lies in the "
                "element's box, its edges included."),
    Metric("click_acc_centre", "Click accuracy, centre of the box", "\ncentre", Outputs.BOX, ("clicked_centre",), _same,
           shown=_OF_SOME_DATA, rare=True, note="Beside it that of the answered box's centre."),
    Metric("agd_kld", "KLD, 224 pixels (nats)", "KLD\n224", Outputs.MAP, ("agd_kld",), _same, shown=_OF_SOME_DATA,
           rare=True, main=True, unit=Unit.THOUSANDTHS, higher_is_better=False, bounded=False,
           note="KLD (lower is better), SIM and NSS (0 is chance) compare the fused map with the true heat map, both "
                "resized to 224 x 224 pixels, as the papers on AGD20K do. A failed map scores 27.63, 0 and 0."),
    Metric("agd_sim", "SIM, 224 pixels", "SIM\n224", Outputs.MAP, ("agd_sim",), _same, shown=_OF_SOME_DATA, rare=True,
           main=True, unit=Unit.THOUSANDTHS),
    Metric("agd_nss", "NSS, 224 pixels", "NSS\n224", Outputs.MAP, ("agd_nss",), _same, shown=_OF_SOME_DATA, rare=True,
           main=True, unit=Unit.THOUSANDTHS, bounded=False),
    Metric("phrase_r@1", "Phrase R@1", "phrase\nR@1", Outputs.BOX, ("best_box_iou",), _box_iou_from(0.5),
           shown=_OF_CAPTIONS, rare=True, main=True,
           note="Phrase R@1 is the share of phrases whose box has at least IoU 0.5 with a box of their entity."),
    Metric("png_average_recall", "PNG average recall", "PNG\nAR", Outputs.MASK, ("segment_iou",), _average_recall,
           shown=_OF_CAPTIONS, rare=True, main=True,
           note="PNG's average recall is the area below the curve of recall over thresholds of mask IoU from 0 to 1."),
    Metric("png_acc@0.5", "PNG Acc@0.5", "PNG\nAcc@0.5", Outputs.MASK, ("segment_iou",), lambda iou: iou > 0.5,
           shown=_OF_CAPTIONS, rare=True, note="PNG's Acc@0.5 is the share of phrases with a mask IoU above 0.5."),
    Metric("map_energy", "Energy in the box", "\nenergy", Outputs.MAP, ("map_energy",), _same, shown=Place.DETAILS,
           of=_ONE,
           note="The others compare the fused map with the object's mask on the patch grid: the share of the map's "
                "energy in the true box, the similarity (SIM) and the Kullback-Leibler divergence (KLD, lower is "
                "better) of the two distributions, and the map's mean standard score on the object (NSS, 0 is "
                "chance). A failed map scores 0, and 36.04 in KLD."),
    Metric("map_kld", "KLD (nats)", "KLD\nnats", Outputs.MAP, ("map_kld",), _same, shown=Place.DETAILS,
           unit=Unit.NATS, higher_is_better=False, bounded=False),
    Metric("map_sim", "SIM", "\nSIM", Outputs.MAP, ("map_sim",), _same, shown=Place.DETAILS),
    Metric("map_nss", "NSS", "\nNSS", Outputs.MAP, ("map_nss",), _same, shown=Place.DETAILS, unit=Unit.DEVIATIONS,
           bounded=False),
    # gRefCOCO's tasks: only where an expression may name several objects or none.
    Metric("grec_pr", "GREC Pr@(F1=1, IoU\u22650.5)", "GREC\nPr", Outputs.BOX, (OBJECTS, "grec"),
           lambda n, right: right, of=Named.ANY, shown=_OF_SEVERAL, main=True,
           note="GREC Pr is the share of expressions with a box for every object and no other one; gRefCOCO's own code "
                "compares boxes by the generalised IoU, mmdet by IoU."),
    Metric("grec_pr_iou", "GREC Pr, plain IoU (mmdet)", "\nIoU", Outputs.BOX, (OBJECTS, "grec_iou"),
           lambda n, right: right, of=Named.ANY, shown=Place.DETAILS),
    Metric("n_acc", "N-acc", "\nN-acc", Outputs.BOX, _ANSWERED, several.none_said, lambda n, _: n == 0, of=Named.ANY,
           shown=_SUMS, main=True,
           note="N-acc is the share of the expressions of nothing that are answered with nothing, T-acc that of the "
                "others that are answered with something."),
    Metric("t_acc", "T-acc", "\nT-acc", Outputs.BOX, _ANSWERED, several.some_answered, lambda n, _: n > 0,
           of=Named.ANY, shown=_SUMS),
    Metric("gres_giou", "GRES gIoU", "GRES\ngIoU", Outputs.MASK, (*_ANSWERED, *_OBJECT_MASKS), several.official_iou,
           of=Named.ANY, shown=_OF_SEVERAL, main=True,
           note="GRES gIoU is the mean IoU of masks, in which a right answer of nothing counts 1; in GRES cIoU a false "
                "mask adds its area to the union. GSVA lets a mask count where nothing was said, LISA's code counts 1 "
                "wherever the union is empty."),
    Metric("gres_ciou", "GRES cIoU", "\ncIoU", Outputs.MASK, (*_ANSWERED, *_OBJECT_MASKS),
           lambda n, said, i, u: several.official_intersection(n, said, i),
           lambda n, said, i, u: several.official_union(n, said, u), of=Named.ANY, shown=_SUMS),
    *(
        Metric(f"gres_pr@{t}", f"GRES Pr@{t}", f"\nPr@{t}", Outputs.MASK, (*_ANSWERED, *_OBJECT_MASKS),
               _official_iou_from(t), shown=Place.DETAILS)
        for t in GRES_PRECISIONS
    ),
    Metric("gres_giou_gsva", "GRES gIoU (GSVA)", "GSVA\ngIoU", Outputs.MASK, (*_ANSWERED, *_OBJECT_MASKS),
           several.gsva_iou, of=Named.ANY, shown=Place.DETAILS),
    Metric("gres_ciou_gsva", "GRES cIoU (GSVA)", "\ncIoU", Outputs.MASK, (*_ANSWERED, *_OBJECT_MASKS),
           lambda n, said, i, u: i, lambda n, said, i, u: several.official_union(n, said, u), of=Named.ANY,
           shown=Place.DETAILS),
    Metric("gres_giou_lisa", "GRES gIoU (LISA)", "LISA\ngIoU", Outputs.MASK, _BY_LISA,
           lambda n, said, i, u, whole: several.lisa_iou(said, i, u, whole), of=Named.ANY, shown=Place.DETAILS),
    Metric("gres_ciou_lisa", "GRES cIoU (LISA)", "\ncIoU", Outputs.MASK, _BY_LISA,
           lambda n, said, i, u, whole: np.where(said == 0, 0, i),
           lambda n, said, i, u, whole: several.lisa_union(said, u, whole), of=Named.ANY, shown=Place.DETAILS),
    Metric("absence_auroc", "AUROC of absence", "none\nAUROC", Outputs.ABSENCE, ("auroc_above", "auroc_below"),
           lambda above, below: above, lambda above, below: below, of=Named.ANY,
           shown=_OF_ABSENCE,
           note="AUROC of absence is how often, of an expression whose object is absent and one whose object is there, "
                "the first has the higher score of absence: 50 is chance."),
    Metric("absence_aurc", "AURC", "none\nAURC", Outputs.ABSENCE, ("aurc_above", "aurc_below"),
           lambda above, below: above, lambda above, below: below, of=Named.ANY,
           shown=_OF_ABSENCE,
           higher_is_better=False,
           note="AURC is the mean share of wrong boxes over all coverages, where the expressions with the highest "
                "score of absence are left unanswered first; every answer to an absent one is wrong."),
)  # fmt: skip
"""In the order of files and tables."""

METRIC = {metric.key: metric for metric in METRICS}
PRIMARY = tuple(metric.key for metric in METRICS if metric.primary)


def shown(place: Place) -> dict[str, Metric]:
    """The metrics of a place, by key, in the order of the table."""
    return {metric.key: metric for metric in METRICS if metric.shown & place}


def told(metrics: dict[str, Metric], found: Collection[str]) -> dict[str, Metric]:
    """Those of `metrics` that a table about `found`, the keys that were measured, has columns for: the common ones, and
    of the rare ones what was measured; none of the common ones where all that was measured is rare."""
    common = not only_rare(found)
    return {key: metric for key, metric in metrics.items() if (key in found if metric.of_some_data else common)}


def headline(found: Collection[str]) -> tuple[str, ...]:
    """The metrics of a verdict on `found`: PRIMARY, or the rare ones where nothing else was measured."""
    return tuple(told(METRIC, found)) if only_rare(found) else PRIMARY


def main_metrics(found: Collection[str]) -> tuple[str, ...]:
    """The metrics of a narrow table about `found`: those by which such data are compared, then PRIMARY as far as it was
    measured; where neither was (a file of points), what a terminal shows."""
    own = [metric.key for metric in METRICS if metric.main and metric.key in found]
    common = [key for key in PRIMARY if key in found]
    return tuple([*own, *common] or [key for key in shown(Place.TERMINAL) if key in found] or PRIMARY)


def only_rare(found: Collection[str]) -> bool:
    """Whether something was measured, and all of it is of a truth that only some data sets have."""
    return bool(found) and all(METRIC[key].of_some_data for key in found if key in METRIC)


def measured(method: str, columns: Collection[str]) -> Iterator[Metric]:
    """The metrics that a method's answers have, where the scores have these columns."""
    outputs = METHODS[method].outputs
    return (metric for metric in METRICS if metric.needs in outputs and set(metric.columns) <= set(columns))
