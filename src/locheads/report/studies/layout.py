"""What a study's table is made of: its rows and columns, what is measured, and where the paper's figures stand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure

from locheads.evaluation.intervals import Difference
from locheads.evaluation.metric_table import METRIC, PRIMARY, Metric, Place, shown
from locheads.evaluation.slices import SLICES
from locheads.records.follows import FollowsRecord
from locheads.records.heads_file import HeadsFile
from locheads.records.metrics_file import Estimate, Figure6, MetricsRecord, p_text
from locheads.records.provenance_file import TimedPass
from locheads.report.run_record import RunRecord
from locheads.report.studies.runs import StudyRun
from locheads.report.tables import heads_rows

PAPER_MODELS = {
    "deepseek_vl_1_3b": "DeepSeek-VL-1.3B",
    "mini_gemini_2b": "Mini-Gemini-2B",
    "internvl_6b": "InternVL-6B",
    "yi_vl_6b": "Yi-VL-6B",
    "deepseek_vl_7b": "DeepSeek-VL-7B",
    "sharegpt4v_7b": "ShareGPT4V-7B",
    "llava_7b": "LLaVA-7B",
    "llava_1_5_7b": "LLaVA-1.5-7B",
    "llava_13b": "LLaVA-13B",
    "llava_1_5_13b": "LLaVA-1.5-13B",
}
"""model.name -> the paper's name."""
NOT_DEFINED = "not defined"
Labels = tuple[str, ...]
"""One per axis."""
Measured = Estimate | float | str | None
"""An estimate, a number, or words; None where a run does not measure it."""


@dataclass(frozen=True)
class Axis:
    """What tells rows, or columns, apart."""

    name: str
    of: Callable[[StudyRun], str]


@dataclass(frozen=True)
class Quantity:
    """What is measured of a run."""

    key: str
    heading: str
    of: Callable[[StudyRun], Measured]
    scale: float = 1.0
    """The table's figures are so many times the measured ones: 100 for percent."""
    decimals: int = 1
    metric: str = ""
    """The key of the metric whose figures, or differences, these are; empty for what is none."""
    paired: str = ""
    """What it is a paired difference to, on the same expressions; empty for what is none."""


@dataclass(frozen=True)
class Paper:
    """How paper.csv is read: a row per row of the paper, a column per figure and per axis that tells its rows apart."""

    figures: Mapping[str, tuple[Labels, str]]
    """Column of the file -> (labels of the column axes, quantity)."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Axes that the file does not tell -> their label."""


@dataclass(frozen=True)
class Layout:
    """One study's table."""

    study: str
    title: str
    rows: tuple[Axis, ...]
    quantities: tuple[Quantity, ...]
    columns: tuple[Axis, ...] = ()
    paper: Paper | None = None
    varies: tuple[str, ...] = ()
    """Beginnings of the settings in which its runs are meant to differ; other differences are noted."""
    parts: Callable[[StudyRun], Sequence[StudyRun]] = lambda run: [run]
    """The rows of one run, where it has several."""
    to_do: Callable[[Labels], bool] = lambda _: True
    """Whether a row of the paper is one that we measure, so that its absence is marked."""
    notes: tuple[str, ...] = ()
    """What to know of the paper's figures."""
    draw: Callable[[RunRecord], Figure] | None = None
    """A figure per run."""

    def row_of(self, run: StudyRun) -> Labels:
        return tuple(axis.of(run) for axis in self.rows)

    def column_of(self, run: StudyRun) -> Labels:
        return tuple(axis.of(run) for axis in self.columns)

    def paper_columns(self) -> set[str]:
        """Of paper.csv."""
        if self.paper is None:
            return set()
        return {*(axis.name for axis in self.rows), *self.paper.figures} - set(self.paper.constants)


# Axes.


def setting(key: str, name: str | None = None) -> Axis:
    """An axis along a setting: 0.80 and 0.8 are the same."""

    def label(run: StudyRun) -> str:
        value = run.setting(key, "null")
        return f"{value:g}" if isinstance(value, float) else str(value)

    return Axis(name or key, label)


def _model(run: StudyRun) -> str:
    """The paper's name of the model, where it has one; of a file of predictions the file's."""
    name = str(run.setting("model.name", "?"))
    return run.predictions or PAPER_MODELS.get(name, name)


def _found_on(run: StudyRun) -> str:
    """Where the heads of a run come from: its own discovery, or a set that it was given (heads.set)."""
    head_set = run.provenance.heads
    if head_set is None:
        return f"{run.setting('dataset.name')} {run.setting('dataset.discovery_split')}"
    return " ".join(head_set.found_on) if head_set.found_on else head_set.set


MODEL = Axis("model", _model)
DATA, SPLIT = setting("dataset.name", "data"), setting("dataset.split", "split")
FOUND_ON = Axis("heads found on", _found_on)
N_SAMPLES = Axis("samples", lambda run: str(run.part.get("n")))

# What a record has to say, or None where the run lacks the record.

T = TypeVar("T")
Measure = Callable[[StudyRun], Measured]


def _of(part: Callable[[StudyRun], T | None], measure: Callable[[T], Measured]) -> Measure:
    def of(run: StudyRun) -> Measured:
        found = part(run)
        return None if found is None else measure(found)

    return of


def _of_metrics(measure: Callable[[MetricsRecord], Measured]) -> Measure:
    return _of(lambda run: run.metrics, measure)


def _of_heads(measure: Callable[[HeadsFile], Measured]) -> Measure:
    return _of(lambda run: run.heads, measure)


def _of_check(measure: Callable[[Figure6], Measured]) -> Measure:
    return _of(lambda run: run.metrics.figure6 if run.metrics else None, measure)


def _of_pass(measure: Callable[[TimedPass], Measured]) -> Measure:
    """Of the kind of pass with most expressions, a second look left out."""

    def chosen(run: StudyRun) -> TimedPass | None:
        return next((timed for timed in run.timing.passes if timed.of != "second look"), None) if run.timing else None

    return _of(chosen, measure)


# Accuracy.


def _quantity(metric: Metric, method: str | None = "localization_heads") -> Quantity:
    """A metric with its interval; of the run's own method for None."""
    scale, decimals = metric.unit.value
    measure = _of_metrics(lambda metrics: metrics.get(method or metrics.own() or "", metric.key))
    return Quantity(metric.plain_name, metric.label, measure, scale, decimals, metric.key)


def _unparsable(metrics: MetricsRecord) -> Measured:
    is_direct = "direct_output" in metrics.methods and metrics.n_expressions
    return metrics.n_empty / metrics.n_expressions if is_direct else None


REC, RES = (_quantity(METRIC[key]) for key in PRIMARY)
ALL_METRICS = tuple(_quantity(metric) for metric in shown(Place.STUDIES).values())
"""For studies that are not the paper's."""
DIRECT_REC = replace(_quantity(METRIC[PRIMARY[0]], "direct_output"), key="direct", heading="asked for the box")
HEADS_REC = replace(REC, key="heads_rec", heading="localization heads")
UNPARSABLE = Quantity("unparsable", "answers without a box, %", _of_metrics(_unparsable), 100)

# Accuracy by slices; a part per slice.


def slices(run: StudyRun) -> list[StudyRun]:
    """A part for all expressions, and one per slice, whose metrics are those of the run's own method there."""
    if run.metrics is None or (own := run.metrics.own()) is None:
        return []
    parts = [run]
    for of_slice in run.metrics.slices:
        counts = {"n_expressions": of_slice.n_expressions, "n_images": of_slice.n_images}
        metrics = run.metrics.model_copy(update={"methods": {own: of_slice.metrics}, **counts})
        label = {"by": SLICES.get(of_slice.by, of_slice.by), "slice": of_slice.name}
        parts.append(replace(run, metrics=metrics, part=label))
    return parts


def kinds(run: StudyRun) -> list[StudyRun]:
    """A part for all expressions, and one per kind that the data set tells apart."""
    return [each for each in slices(run) if each is run or each.part["by"] == SLICES["kind"]]


def looks(run: StudyRun) -> list[StudyRun]:
    """A part for all expressions of a run with a second look, and one per slice by the object's size."""
    return [replace(run, part=gain.model_dump() | {"gain": gain}) for gain in run.zoom.gains] if run.zoom else []


def part(name: str, heading: str | None = None, default: str = "?") -> Axis:
    """An axis along what tells a run's parts apart."""
    return Axis(heading or name, lambda run: str(run.part.get(name, default)))


REC_OF_OWN = tuple(_quantity(METRIC[f"rec_acc@{t}"], None) for t in (0.5, 0.75, 0.9))
PHRASE_R1, PNG_RECALL, PNG_ACC = (
    _quantity(METRIC[key], None) for key in ("phrase_r@1", "png_average_recall", "png_acc@0.5")
)
OF_ABSENCE = tuple(_quantity(METRIC[key]) for key in ("absence_auroc", "n_acc", "t_acc", "absence_aurc"))
OF_SEVERAL = tuple(
    _quantity(METRIC[key], None) for key in ("grec_pr", "grec_pr_iou", "n_acc", "t_acc", "gres_giou", "gres_ciou")
)
N_EXPRESSIONS = Quantity("n", "expressions", _of_metrics(lambda metrics: metrics.n_expressions), decimals=0)


CLICKS = tuple(_quantity(METRIC[key], None) for key in ("click_acc", "click_acc_centre"))
HEAT = tuple(_quantity(METRIC[key]) for key in ("agd_kld", "agd_sim", "agd_nss"))

# Do the heads follow the words?


def _of_follows(measure: Callable[[FollowsRecord], Measured]) -> Measure:
    return _of(lambda run: run.metrics.follows if run.metrics else None, measure)


def _gap(judged: FollowsRecord) -> Measured:
    if judged.gap is None or judged.low is None or judged.high is None:
        return judged.gap
    return Estimate(judged.gap, judged.low, judged.high)


FOLLOWS = Quantity("follows", "verdict", _of_follows(lambda judged: judged.follows.value))
GAP = Quantity("gap", "peak gap", _of_follows(_gap), decimals=2)
DEPENDENCE = Quantity("dependence", "dependence", _of_follows(lambda judged: judged.dependence), decimals=2)
FAILED = Quantity("failed", "expressions that failed", _of_metrics(lambda metrics: metrics.n_failed), decimals=0)

# Heads, and the check of Fig. 6.


def _names(run: StudyRun) -> Measured:
    if run.heads is not None:
        return " ".join(str(head) for head in run.heads.heads)
    return " ".join(run.metrics.heads) or None if run.metrics else None


def _depth(heads: HeadsFile) -> Measured:
    """Mean layer of the heads, counted from 1, as a share of the model's layers."""
    layers = len(heads.mean_attention_sum)
    return float(np.mean([(head.layer + 1) / layers for head in heads.heads]))


def _p_value(check: Figure6) -> Measured:
    return p_text(check.p_value).replace("\u00a0", " ").removeprefix("p ").removeprefix("= ")


HEADS = Quantity("heads", "heads", _names)
DEPTH = Quantity("depth", "mean layer of the heads, % of depth", _of_heads(_depth), 100, 0)
ELIGIBLE = Quantity("eligible", "eligible heads", _of_heads(lambda h: f"{int(h.eligible.sum())} of {h.eligible.size}"))
TAU = Quantity("tau", "tau", _of_heads(lambda h: NOT_DEFINED if h.tau is None else h.tau), decimals=3)
SPEARMAN = Quantity("spearman", "Spearman", _of_check(lambda c: c.spearman if c.defined else NOT_DEFINED), decimals=2)
P_VALUE = Quantity("p", "p", _of_check(_p_value))
N_HEADS = Quantity("n_heads", "heads with frequency >= 1 %", _of_check(lambda c: c.n_heads), decimals=0)

# Time and memory.

TIME = Quantity(
    "ms_per_expression",
    "ms per expression",
    _of_pass(lambda timed: 1000 * timed.seconds / timed.expressions if timed.expressions else None),
)
MEMORY = Quantity("peak_gib", "peak memory, GiB", _of_pass(lambda timed: timed.peak_bytes / 2**30), decimals=2)
DEVICE = Quantity("device", "device", _of_pass(lambda timed: timed.device))

# A second look; a part per slice by the object's size.


def _of_gain(
    key: str, heading: str, metric: str, measure: Callable[[Difference], Measured], paired: str = ""
) -> Quantity:
    def of(run: StudyRun) -> Measured:
        change = run.part["gain"].metrics.get(metric) if "gain" in run.part else None
        return None if change is None else measure(change)

    name, title = METRIC[metric].plain_name, METRIC[metric].label
    return Quantity(f"{name}_{key}", f"{title}{heading}", of, 100, metric="" if paired else metric, paired=paired)


LOOKS = tuple(
    quantity
    for metric in ("rec_acc@0.5", "res_ciou", "pointing")
    for quantity in (
        _of_gain("first", ", first look", metric, lambda change: change.a),
        _of_gain(
            "gain",
            ", change",
            metric,
            lambda change: Estimate(change.difference, change.low, change.high),
            "the first look",
        ),
    )
)
ASKED = Quantity(
    "asked", "expressions asked again", lambda run: sum(run.zoom.n_asked) if run.zoom else None, decimals=0
)

# Stability over discovery samples; a part per size.


def sizes(run: StudyRun) -> list[StudyRun]:
    """A part per size of stability.json."""
    return [replace(run, part=size.model_dump()) for size in run.stability.sizes] if run.stability else []


def overlap(one: set[str], other: set[str]) -> float:
    """The share of heads that both have."""
    return len(one & other) / max(len(one), len(other), 1)


def _shared(tops: Iterable[Iterable[str]]) -> Measured:
    pairs = list(combinations(map(set, tops), 2))
    return float(np.mean([overlap(*pair) for pair in pairs])) if pairs else None


def _with_final(measure: Callable[[list[set[str]], set[str]], Measured]) -> Callable[[StudyRun], Measured]:
    """Of the heads of each trial, and those of all samples."""

    def of(run: StudyRun) -> Measured:
        tops, final = [set(top) for top in run.part.get("tops") or []], set(str(_names(run) or "").split())
        return measure(tops, final) if tops and final else None

    return of


BETWEEN_TRIALS = Quantity(
    "overlap_trials", "heads that two trials share, %", lambda run: _shared(run.part.get("tops") or []), 100
)
WITH_ALL = Quantity(
    "overlap_all",
    "heads shared with all samples' choice, %",
    _with_final(lambda tops, final: float(np.mean([overlap(top, final) for top in tops]))),
    100,
)
SAME_SET = Quantity(
    "same_set",
    "trials with exactly that choice",
    _with_final(lambda tops, final: f"{sum(top == final for top in tops)} of {len(tops)}"),
)

# What discovery drew, and how sure it is of the frequencies.


def _width(heads: HeadsFile) -> Measured:
    """Mean over the localization heads."""
    ends = [(h.frequency_low, h.frequency_high) for h in heads.found]
    widths = [high - low for low, high in ends if low is not None and high is not None]
    return float(np.mean(widths)) if widths else None


TRIALS_SHARE = replace(BETWEEN_TRIALS, key="trials_share", of=_of_heads(lambda h: _shared(h.top_per_trial)))
FREQUENCIES = Quantity(
    "frequencies",
    "frequency of each, % [over images] ± over trials",
    _of_heads(lambda h: ", ".join(frequency for _, frequency, *_ in heads_rows(h))),
)
WIDTH = Quantity("width", "width of the intervals, points", _of_heads(_width), 100)
DRAWN = Quantity("expressions", "expressions read", _of_heads(lambda h: h.n_expressions), decimals=0)
IMAGES = Quantity("images", "images read", _of_heads(lambda h: h.n_images), decimals=0)
