"""metrics.json as typed values, and the names under which methods and metrics are shown."""

from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from locheads.evaluation.intervals import FEW_IMAGES
from locheads.report import parse
from locheads.types import HeadIndex

METHODS = {
    "localization_heads": "Localization heads",
    "predictions": "Predictions of a file",
    "points": "Points of a file",
    "direct_output": "Asked for the box",
    "best_rec_heads": "Best set by REC",
    "best_iou_heads": "Best heads by IoU",
    "mean_of_all_heads": "Mean of all heads",
    "random_heads": "Random heads",
    "centre_box": "Centre box",
}
"""In the order of the tables."""

WITH_TRUTH = ("best_rec_heads", "best_iou_heads")
"""Chosen with ground truth, of the discovery samples: marked with a star."""

EARLIER_NAMES = {"oracle_heads": "best_iou_heads"}
"""Methods as run folders of earlier versions call them."""

OWN_METHODS = ("localization_heads", "predictions", "direct_output", "points")
"""What a run may be about; the others are what it is compared with."""

METRICS = {
    "rec_acc@0.5": "REC Acc@0.5",
    "rec_acc@0.25": "REC Acc@0.25",
    "rec_acc@0.75": "REC Acc@0.75",
    "rec_mean_iou": "REC mean IoU",
    "res_ciou": "RES cIoU",
    "res_miou": "RES mIoU",
    "pointing": "Pointing",
    "pointing_swapped": "Pointing, expression swapped",
    "pointing_chance": "Pointing by chance",
}
"""In the order of the tables. All in [0, 1], shown in percent."""

DETAILS = {
    **{f"res_pr@{t}": f"RES Pr@{t}" for t in (0.5, 0.6, 0.7, 0.8, 0.9)},
    "map_energy": "Energy in the box",
    "map_sim": "SIM",
    "map_kld": "KLD (nats)",
    "map_nss": "NSS",
}
"""The page's second table; in percent, too, but for UNSCALED."""

UNSCALED = ("map_kld", "map_nss")

SLICE_METRICS = {key: METRICS[key] for key in ("rec_acc@0.5", "rec_mean_iou", "res_ciou", "res_miou", "pointing")}

RHO = "\N{GREEK SMALL LETTER RHO}"

PRIMARY = ("rec_acc@0.5", "res_ciou")
"""The two numbers of the paper's tables."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its confidence interval, all in [0, 1]; NaN ends where nothing is known of the spread."""

    value: float
    low: float
    high: float
    mark: str = ""
    """FEW_MARK on fewer than FEW_IMAGES images."""

    def __str__(self) -> str:
        """In percent: 53.2 [50.1, 56.0]."""
        return f"{self.short()} [{percent(self.low)}, {percent(self.high)}]"

    def short(self) -> str:
        """In percent, without the interval."""
        return percent(self.value) + self.mark


FEW_MARK = "\N{DAGGER}"
FEW_LEGEND = f"{FEW_MARK} on fewer than {FEW_IMAGES} images: take figure and interval as rough."


def few_mark(n_images: int) -> str:
    """FEW_MARK, or nothing."""
    return FEW_MARK if n_images < FEW_IMAGES else ""


def few_legend(*shown: object) -> str:
    """What the mark means, to be put behind a text; nothing where none of the texts `shown` holds it."""
    return f" {FEW_LEGEND}" if any(FEW_MARK in str(text) for text in shown) else ""


@dataclass(frozen=True)
class Slice:
    """The run's own method on a part of the expressions."""

    by: str
    """A key of locheads.evaluation.slices.SLICES."""
    name: str
    n_expressions: int
    n_images: int
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class FrequencyPoint:
    """One head of the paper's Fig. 6."""

    index: HeadIndex
    frequency: float
    iou: float


@dataclass(frozen=True)
class Figure6:
    """Does selection frequency tell how well a head's map covers the object?"""

    spearman: float | None
    p_value: float | None
    n_heads: int
    points: tuple[FrequencyPoint, ...]


@dataclass(frozen=True)
class BoxesRecord:
    """How the boxes of a file, or of an LVLM's words, are written (locheads.evaluation.watch.BoxCheck)."""

    n_boxes: int
    n_several: int
    """Answers that hold several different boxes, of which the first is scored."""
    without: dict[str, int]
    """Why answers have no box: reason -> count."""

    def reasons(self) -> str:
        """ " (3 leave the declared range, 1 answer nothing)"; empty where all have a box."""
        told = ", ".join(f"{count} {reason}" for reason, count in self.without.items())
        return f" ({told})" if told else ""


@dataclass(frozen=True)
class MetricsRecord:
    """The evaluation of one run."""

    split: str
    n_expressions: int
    n_images: int
    n_failed: int
    """Expressions that could not be processed: scored as misses."""
    n_empty: int
    """Expressions without a predicted box: scored as misses."""
    confidence: float
    """Coverage of the intervals, e.g. 0.95."""
    methods: dict[str, dict[str, Estimate]]
    """method -> metric -> estimate; a metric that a method lacks is absent."""
    heads: tuple[str, ...]
    best_iou_heads: tuple[str, ...]
    best_rec_heads: tuple[str, ...]
    figure6: Figure6 | None
    slices: tuple[Slice, ...] = ()
    n_missing: int | None = None
    """Expressions that a file of predictions does not mention: scored as misses, and among n_failed."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know."""
    boxes: BoxesRecord | None = None
    """Of runs about written boxes."""

    def get(self, method: str, metric: str) -> Estimate | None:
        return self.methods.get(method, {}).get(metric)

    def own(self) -> str | None:
        """The method that the run is about; None where only baselines are told."""
        return next((method for method in OWN_METHODS if method in self.methods), None)

    def rows(self) -> list[str]:
        """Methods in the order of the tables; unknown ones last."""
        return [m for m in METHODS if m in self.methods] + [m for m in self.methods if m not in METHODS]


def percent(value: float) -> str:
    """0.532 -> "53.2"."""
    return f"{100 * value:.1f}" if isfinite(value) else "\N{EN DASH}"


def value_text(metric: str, value: float) -> str:
    """In percent with one decimal; UNSCALED as they are, with two."""
    return f"{value:.2f}" if metric in UNSCALED and isfinite(value) else percent(value)


def method_label(method: str) -> str:
    """With a star where it was chosen with ground truth."""
    return METHODS.get(method, method) + (" *" if method in WITH_TRUTH else "")


def spearman_text(check: Figure6 | None) -> str:
    """The check's outcome in one line: Spearman rho = 0.71, p < 0.001, 32 heads (with the Greek letter)."""
    if check is None or check.spearman is None or not isfinite(check.spearman):
        return "Spearman correlation not defined: too few heads"
    return f"Spearman {RHO}\u00a0=\u00a0{check.spearman:.2f}, {p_text(check.p_value)}, {check.n_heads} heads"


def p_text(p_value: float | None) -> str:
    """p < 0.001, p = 0.034, or "p unknown"."""
    if p_value is None or not isfinite(p_value):
        return "p unknown"
    # A number never parts from its sign at the end of a line.
    return "p\u00a0<\u00a00.001" if p_value < 0.001 else f"p\u00a0=\u00a0{p_value:.3f}"


def parse_metrics(raw: Any) -> MetricsRecord:
    """Raises KeyError or ValueError where a field is absent or malformed."""
    raw = parse.mapping(raw, "it")
    methods = parse.mapping(raw["methods"], "methods")
    figure6 = raw.get("figure6")
    n_images = parse.count(raw["n_images"], "n_images")
    return MetricsRecord(
        split=str(raw["split"]),
        n_expressions=parse.count(raw["n_expressions"], "n_expressions"),
        n_images=n_images,
        n_failed=parse.count(raw["n_failed"], "n_failed"),
        n_empty=parse.count(raw["n_empty"], "n_empty"),
        confidence=parse.number(raw.get("confidence", 0.95), "confidence"),
        methods={
            EARLIER_NAMES.get(str(name), str(name)): _estimates(values, str(name), n_images)
            for name, values in methods.items()
        },
        heads=tuple(map(str, raw.get("heads") or ())),
        best_iou_heads=tuple(map(str, raw.get("best_iou_heads") or raw.get("oracle_heads") or ())),
        best_rec_heads=tuple(map(str, raw.get("best_rec_heads") or ())),
        figure6=None if figure6 is None else _figure6(figure6),
        slices=tuple(_slice(parse.mapping(s, "a slice")) for s in parse.listing(raw.get("slices", []), "slices")),
        n_missing=None if raw.get("n_missing") is None else parse.count(raw["n_missing"], "n_missing"),
        notes=tuple(map(str, raw.get("notes") or ())),
        boxes=None if raw.get("boxes") is None else _boxes(parse.mapping(raw["boxes"], "boxes")),
    )


def _boxes(raw: dict[str, Any]) -> BoxesRecord:
    without = parse.mapping(raw["without"], "without")
    return BoxesRecord(
        n_boxes=parse.count(raw["n_boxes"], "n_boxes"),
        n_several=parse.count(raw["n_several"], "n_several"),
        without={str(reason): parse.count(count, str(reason)) for reason, count in without.items()},
    )


def _estimates(values: Any, method: str, n_images: int) -> dict[str, Estimate]:
    return {
        metric: parse_estimate(e, f"{method} {metric}", n_images)
        for metric, e in parse.mapping(values, method).items()
        if e is not None and e["value"] is not None
    }


def parse_estimate(raw: dict[str, Any], name: str, n_images: int) -> Estimate:
    """Raises KeyError or ValueError where an end is absent or malformed."""
    low, high = (nan if raw[key] is None else parse.number(raw[key], f"{name} {key}") for key in ("low", "high"))
    return Estimate(parse.number(raw["value"], f"{name} value"), low, high, few_mark(n_images))


def _slice(raw: dict[str, Any]) -> Slice:
    n_expressions, n_images = (parse.count(raw[key], key) for key in ("n_expressions", "n_images"))
    name = str(raw["slice"])
    return Slice(str(raw["by"]), name, n_expressions, n_images, _estimates(raw["metrics"], name, n_images))


def _figure6(raw: Any) -> Figure6:
    raw = parse.mapping(raw, "figure6")
    points = tuple(
        FrequencyPoint(parse.head_index(p), parse.number(p["frequency"], "frequency"), parse.number(p["iou"], "iou"))
        for p in parse.listing(raw["points"], "points")
    )
    return Figure6(
        spearman=parse.optional_number(raw["spearman"], "spearman"),
        p_value=parse.optional_number(raw["p_value"], "p_value"),
        n_heads=parse.count(raw["n_heads"], "n_heads"),
        points=points,
    )
