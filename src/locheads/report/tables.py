"""Terminal tables of one run."""

import numpy as np
from rich.console import RenderableType

from locheads.discovery.config import Draw
from locheads.evaluation.metric_table import ABSENT, Metric, Place, method_label, percent, shown, told
from locheads.evaluation.slices import SLICES
from locheads.fitted_table import WIDE, Row, figures, fitted_table, label
from locheads.models.config import Query, query_of
from locheads.records.heads_file import FoundHead, HeadsFile
from locheads.records.metrics_file import Estimate, MetricsRecord, answered, few_legend, few_mark
from locheads.report.interval_words import level_of
from locheads.report.run_record import RunRecord

Z = 1.96
"""Half a 95 % interval in standard deviations."""
UNSTEADY = 3.0
"""Variance of the mean frequency by the trials over that by the images; more comes about by chance in less than 2 % of
cases with five trials, even of a single head."""
ROWS = {
    Query.last: "the last token of the prompt",
    Query.expression_last: "the last token of the expression",
    Query.expression_mean: "the tokens of the expression (their mean)",
    Query.answer_first: "the row that predicts the first token of the model's answer",
    Query.answer_word: "the rows that predict word {} of the model's answer (their mean)",
    Query.answer_mean: "the rows that predict the model's answer (their mean)",
    Query.answer_numbers: "the rows that predict the numbers of the box in the model's answer (their mean)",
    Query.answer_end: "the row that predicts the end of the model's answer",
}
"""Where attention is taken from by `prompt.query`, in words."""


def columns(metrics: MetricsRecord, place: Place, width: int = WIDE) -> list[Metric]:
    """The metrics that a terminal of this width shows there; metrics.json and the page have the others, too."""
    there = told(shown(place), metrics.measured)
    return [metric for metric in there.values() if metric.shown & Place.TERMINAL and metric.min_width <= width]


def metric_cell(metric: Metric, estimate: Estimate | None) -> str:
    """The primary metrics with their intervals."""
    return ABSENT if estimate is None else estimate.text(metric.unit, metric.primary)


def results_table(record: RunRecord, width: int = WIDE) -> RenderableType:
    """Methods x metrics in percent; some fewer, in 80 columns, where `width` is narrower than 100.

    Raises StoreError without a readable metrics.json.
    """
    metrics = record.need(MetricsRecord)
    there, rows = columns(metrics, Place.TERMINAL, width), []
    for method in metrics.rows():
        cells = [metric_cell(metric, metrics.get(method, metric.key)) for metric in there]
        rows.append(Row([method_label(method), *cells], "bold" if method == "localization_heads" else None))
    headings = [*label(""), *figures(*(metric.heading for metric in there))]
    return fitted_table("Results in percent", headings, rows, results_caption(metrics), width)


def results_caption(metrics: MetricsRecord) -> str:
    """What the numbers were measured on; shared by the terminal and the page."""
    reasons = metrics.boxes.reasons() if metrics.boxes else ""
    missing = f" ({metrics.n_missing} of them not in the file)" if metrics.n_missing else ""
    # Where nothing may be named, no box is the answer that nothing is there.
    misses = (
        "misses; the latter right where nothing is named" if "n_acc" in metrics.measured else "both count as misses"
    )
    return (
        f"{metrics.split}: {metrics.n_images} images, {metrics.n_expressions} expressions, "
        f"{metrics.n_failed} failed{missing}, {metrics.n_empty} without a {answered(metrics)}{reasons} "
        f"({misses}). "
        f"Brackets: {level_of(metrics.confidence)} interval over images. "
        "* chosen with ground truth, of the discovery set."
        + _swapped_text(metrics)
        + few_legend(*(estimate for found in metrics.methods.values() for estimate in found.values()))
    )


def slices_table(record: RunRecord, width: int = WIDE) -> RenderableType:
    """The run's own method on parts of the expressions, in percent.

    Raises StoreError without a readable metrics.json.
    """
    metrics = record.need(MetricsRecord)
    there, rows = columns(metrics, Place.SLICES, width), []
    for part in metrics.slices:
        cells = [metric_cell(metric, part.metrics.get(metric.key)) for metric in there]
        rows.append(Row([SLICES.get(part.by, part.by), part.name, str(part.n_expressions), *cells]))
    headings = [*label("of", "part"), *figures("expres-\nsions", *(metric.heading for metric in there))]
    return fitted_table("By slices, in percent", headings, rows, slices_legend(metrics), width)


def slices_legend(metrics: MetricsRecord) -> str:
    return few_legend(*(estimate for part in metrics.slices for estimate in part.metrics.values())).strip()


def _swapped_text(metrics: MetricsRecord) -> str:
    """Do the maps follow the words? Nothing where the run did not measure it."""
    own = metrics.methods.get("localization_heads", {})
    if "pointing_swapped" not in own:
        return ""
    swapped, chance = (percent(own[name].value) for name in ("pointing_swapped", "pointing_chance"))
    return (
        f" The localization heads' maps of another expression point at the object in {swapped} % (chance {chance} %)."
    )


def heads_rows(heads: HeadsFile) -> list[tuple[str, str, str, str, str]]:
    """Per localization head: name, selection frequency with its interval +- std (%), mean attention sum, head IoU
    (%), dependence on the words."""
    rows = []
    for found in heads.found:
        index, at = found.index, (found.layer, found.head)
        iou = np.nan if heads.head_iou is None else heads.head_iou[at]
        words = np.nan if heads.dependence is None else heads.dependence.dependence[at]
        dependence = f"{words:.2f}" if np.isfinite(words) else ABSENT
        sums = f"{heads.mean_attention_sum[at]:.3f}"
        rows.append((str(index), _frequency(heads, found), sums, percent(iou), dependence))
    return rows


def _frequency(heads: HeadsFile, found: FoundHead) -> str:
    """62.0 [58.1, 65.7] ± 2.1; without brackets where the file has no interval."""
    at, low, high = (found.layer, found.head), found.frequency_low, found.frequency_high
    value, spread = float(heads.frequency_mean[at]), percent(heads.frequency_std[at])
    if low is None or high is None or heads.n_images is None:
        return f"{percent(value)} ± {spread}"
    return f"{Estimate(value, low, high, few_mark(heads.n_images))} ± {spread}"


def heads_caption(heads: HeadsFile) -> str:
    """How the heads were found; shared by the terminal and the page."""
    tau = "no threshold on the mean sums" if heads.tau is None else f"threshold τ = {heads.tau:.3f}"
    return (
        f"{heads.n_samples} samples x {heads.trials} trials{_drawn_text(heads)}, {heads.n_failed} failed, {tau}, "
        f"{int(heads.eligible.sum())} of {heads.eligible.size} heads eligible. "
        f"± is the standard deviation over trials.{_interval_text(heads)}{_support_text(heads)}"
        f"{_tie_text(heads)}"
    )


def query_row(query: str | None) -> str:
    """See ROWS. None: of a run that did not record it yet, the paper's."""
    kind, number = query_of(query or Query.last)
    return ROWS[kind].format(number)


def _drawn_text(heads: HeadsFile) -> str:
    if heads.n_images is None or heads.n_expressions is None:
        return ""
    whole = ", drawn by whole images" if heads.draw == Draw.image else ""
    return f" ({heads.n_expressions} different ones of {heads.n_images} images{whole})"


def _interval_text(heads: HeadsFile) -> str:
    if heads.n_images is None:
        return ""
    if heads.n_images == 1:
        return " One image tells nothing of others: there is no interval."
    return f" Brackets: 95 % interval over images.{few_legend(few_mark(heads.n_images))}{_unsteady_text(heads)}"


def _unsteady_text(heads: HeadsFile) -> str:
    """The intervals take each trial's threshold as it is; where thresholds jump, the trials differ by more."""
    ends = [(h.frequency_low, h.frequency_high) for h in heads.found]
    over_images = np.array([(high - low) / (2 * Z) for low, high in ends if low is not None and high is not None]) ** 2
    over_trials = np.array([heads.frequency_std[h.layer, h.head] ** 2 for h in heads.found]) / max(heads.trials - 1, 1)
    if len(over_images) < len(over_trials) or over_trials.sum() <= UNSTEADY * over_images.sum():
        return ""
    return " The trials differ by more than that, because their thresholds do: take the intervals as too narrow."


def _support_text(heads: HeadsFile) -> str:
    """Are the heads final, and how many samples would have sufficed? Nothing of earlier versions."""
    if (found := heads.support) is None:
        return ""
    wanted = level_of(found.confidence)
    first = f"come first in {percent(found.share)} % of {found.resamples} resamples of the images"
    if found.enough is None:
        return f" The same {heads.k} {first}, fewer than {wanted}: they are not final, ask more samples."
    return f" The same {heads.k} {first}; from {found.enough} samples on it is {wanted} or more."


def _tie_text(heads: HeadsFile) -> str:
    """Heads that are not taken and rank as high as the last that is: the choice between them says nothing.

    Where no more heads are eligible than a sample names, all have the frequency 1.
    """
    ranked_by = heads.frequency_mean if heads.score is None else heads.score
    last = heads.found[-1].index
    tied = ranked_by == ranked_by[last.layer, last.head]
    others = int(tied.sum()) - sum(bool(tied[head.layer, head.head]) for head in heads.found)
    if others == 0:
        return ""
    all_named = heads.score is None and heads.frequency_mean[last.layer, last.head] == 1
    told = "1 other head ties" if others == 1 else f"{others} other heads tie"
    why = " Each sample names them all: lower criterion.candidates." if all_named else ""
    return f" {told} with {last}: only the order in the model decides between them.{why}"


def heads_table(record: RunRecord) -> RenderableType:
    """The localization heads, the most frequent first. Raises StoreError without a readable heads.json."""
    heads = record.need(HeadsFile)
    headings = [*label("head"), *figures("frequency (%)", "attention sum", "head IoU (%)", "dependence")]
    return fitted_table("Localization heads", headings, [Row(row) for row in heads_rows(heads)], heads_caption(heads))
