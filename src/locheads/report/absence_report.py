"""The answer "none" on the page and in the terminal: how well scores tell absent objects, and what abstaining gains."""

from matplotlib.figure import Figure
from rich.console import RenderableType

from locheads.errors import StoreError
from locheads.evaluation.metric_table import ABSENT, percent
from locheads.fitted_table import WIDE, Row, figures, fitted_table, label
from locheads.records.gallery_file import GalleryItem
from locheads.records.metrics_file import AbsencePart, MetricsRecord, few_legend
from locheads.report.run_record import RunRecord
from locheads.report.theme import LIGHT, Theme, label_axes, new_charts

WORDS = {
    "peak": "mean over peak of the fused map",
    "entropy": "entropy of the fused map",
    "mass": "how little the heads look at the image",
    "agreement": "how little the heads' maps overlap",
    "scatter": "how far apart the heads' peaks lie",
    "others": "what is shared with other expressions' maps",
    "probes": "what is shared with the maps of questions of place",
}


def absence_rows(absence: AbsencePart) -> list[tuple[str, str, str, str, bool]]:
    """Per score: name, what it is, AUROC in percent on the calibration samples and on the evaluated ones, whether it is
    the one that decides."""
    calibrated = absence.calibration.auroc if absence.calibration else {}
    names = [name for name in WORDS if name in calibrated or name in absence.auroc]
    return [
        (
            name,
            WORDS[name],
            percent(calibrated[name]) if name in calibrated else ABSENT,
            str(absence.auroc.get(name, ABSENT)),
            name == absence.score,
        )
        for name in names
    ]


def absence_table(record: RunRecord, width: int = WIDE) -> RenderableType:
    """AUROC of every score. Raises StoreError without a readable metrics.json that tells of absence."""
    absence = needed(record)
    rows = [Row(cells, "bold" if decides else None) for *cells, decides in absence_rows(absence)]
    headings = [*label("score", "reads"), *figures("calibration", "evaluated")]
    return fitted_table("Is it there? AUROC in percent", headings, rows, absence_caption(absence), width)


def absence_caption(absence: AbsencePart) -> str:
    """Where the threshold comes from, and what was asked."""
    found = absence.calibration
    how = "as the run was told" if found is None else (
        f"{found.rule.replace('_', ' ')} on {found.n_images} images of {found.split} ({found.n_targeted} expressions "
        f"of something, {found.n_absent} of nothing, {found.n_failed} failed), where N-acc is {percent(found.n_acc)} "
        f"and T-acc {percent(found.t_acc)}"
    )  # fmt: skip
    unscored = f"; {absence.n_unscored} have no score and count as placed wrongly" if absence.n_unscored else ""
    return (
        f'The score {absence.score} says "none" from {absence.threshold:.4g} on: {how}. Evaluated: '
        f"{absence.n_targeted} expressions of something, {absence.n_absent} of nothing{unscored}. 50 is chance."
        + few_legend(*absence.auroc.values())
    )


def no_box(item: GalleryItem, absence: AbsencePart | None) -> str:
    """Why a sample that did not fail has no box, by what metrics.json says of absence."""
    empty = "the fused map has no cell above its mean."
    if absence is None:
        return f"No box: {empty}"
    if item.absence is None:  # a run of before the score was kept with the sample
        return f"No box: the score of absence says that nothing is there, or {empty}"
    said = f"the score of absence is {item.absence:.4g}, and the answer is none from {absence.threshold:.4g} on"
    return f"None: {said}." if item.absence >= absence.threshold else f"No box: {empty}"


def needed(record: RunRecord) -> AbsencePart:
    """Raises StoreError where the run always answers."""
    absence = record.need(MetricsRecord).absence
    if absence is None:
        raise StoreError(f"{record.folder}: metrics.json does not tell of absent objects.")
    return absence


def risk_coverage_curve(record: RunRecord, theme: Theme = LIGHT) -> Figure:
    """Share of wrong boxes among the expressions that are answered, over the share that is."""
    absence = needed(record)
    figure, (axes,) = new_charts(theme)
    axes.plot([100 * x for x in absence.coverage], [100 * y for y in absence.risk], color=theme.data, linewidth=2)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, max(105 * max(absence.risk, default=0.0), 1.0))
    words = "answered expressions (%)", "wrong boxes among them (%)", f"Risk and coverage by {absence.score}"
    label_axes(axes, theme, *words, grid="y")
    return figure
