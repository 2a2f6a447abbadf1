"""One table for all runs of a sweep. A failed run is a row with its reason, never a row less."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import RenderableType

from locheads.evaluation.metric_table import ABSENT, METRIC, PRIMARY, Place, Unit, main_metrics, shown
from locheads.fitted_table import Column, Row, figures, fitted_table, label, words
from locheads.records.audit_file import AuditedChoice, AuditFile
from locheads.records.metrics_file import Estimate, MetricsRecord, few_legend
from locheads.report.audit_report import cell, difference_cell
from locheads.report.interval_words import level_of

TABLE4_KEYS = {"heads.k"}
TABLE5_KEYS = {"criterion", "selection"}


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep."""

    overrides: dict[str, str]
    """Setting -> value, as on the command line."""
    folder: Path
    metrics: MetricsRecord | None
    """None where the run did not get, or did not have to go, that far."""
    error: str | None
    """Why the run failed."""
    done_before: str | None = None
    """The earlier run that was taken over, because it had done the same."""
    digest: str | None = None
    """Of the run; the same for runs that have to give the same result."""
    audit: AuditFile | None = None
    """Of a run that audits."""

    @property
    def reason(self) -> str:
        """Why the run failed in one line, or ""."""
        return " ".join((self.error or "").split())

    def own(self, metric: str) -> Estimate | None:
        """Of the method that the run is about."""
        return None if self.metrics is None else self.metrics.get(self.metrics.own() or "", metric)

    @property
    def measured(self) -> set[str]:
        """The metrics of that method."""
        return set() if self.metrics is None else {*self.metrics.methods.get(self.metrics.own() or "", {})}

    def cells(self, metrics: Sequence[str]) -> list[str]:
        """These metrics."""
        without = "failed" if self.error else ABSENT
        return [found.text(METRIC[key].unit) if (found := self.own(key)) else without for key in metrics]


def sweep_table(runs: Sequence[SweepRow]) -> RenderableType:
    """Table 4's layout for a sweep of heads.k, Table 5's for criterion x selection, for audits with planted heads a row
    per choice, else a row per run."""
    if any(run.audit and run.audit.planted for run in runs):
        return _planted(runs)
    every = {key for run in runs for key in run.overrides}
    for keys, layout in ((TABLE4_KEYS, _table4), (TABLE5_KEYS, _table5)):
        if runs and keys in (every, set(swept_keys(runs))):
            return layout(runs)
    return _general(runs)


def sweep_frame(runs: Sequence[SweepRow]) -> pd.DataFrame:
    """One row per run: its overrides as text, each metric in [0, 1] with `_low` and `_high`, heads, error, and where
    the result comes from."""
    measured = {key for run in runs for key in run.measured}
    metrics = [key for key, metric in shown(Place.PAGE).items() if key in measured or not metric.of_some_data]
    return pd.DataFrame([_frame_row(run, metrics) for run in runs])


def swept_keys(runs: Sequence[SweepRow]) -> list[str]:
    """The settings whose value differs between runs; all of them where there is only one run."""
    keys = list(dict.fromkeys(key for run in runs for key in run.overrides))
    return [key for key in keys if len(runs) < 2 or len({run.overrides.get(key) for run in runs}) > 1]


def _frame_row(run: SweepRow, metrics: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = dict(run.overrides)
    for metric in metrics:
        for end, field in (("", "value"), ("_low", "low"), ("_high", "high")):
            row[f"{metric}{end}"] = getattr(run.own(metric), field, None)
    heads = " ".join(run.metrics.heads) if run.metrics else None
    origin = {"digest": run.digest, "folder": str(run.folder), "done_before": run.done_before}
    return {**row, "heads": heads, "error": run.reason or None, **origin}


def _caption(runs: Sequence[SweepRow], listed: bool) -> str:
    """The common settings and, where the rows cannot name them, the failures."""
    levels = {run.metrics.confidence for run in runs if run.metrics}
    confidence = f"{level_of(levels.pop())} " if len(levels) == 1 else ""
    first = _main(runs)[:1]
    few = few_legend(*(cell for run in runs for cell in run.cells(first)))
    notes = [f"Brackets: {confidence}interval over images.{few}"]
    swept = swept_keys(runs)
    if common := {k: v for run in runs for k, v in run.overrides.items() if k not in swept}:
        notes.append("All runs: " + ", ".join(f"{k}={v}" for k, v in common.items()) + ".")
    if before := sum(run.done_before is not None for run in runs):
        notes.append(f"{before} of {len(runs)} runs were done before and are not run again (fresh=true would).")
    if failed := [run for run in runs if run.error]:
        notes.append(f"{len(failed)} of {len(runs)} runs failed.")
    for run in failed if not listed else []:
        name = " ".join(f"{k}={v}" for k, v in run.overrides.items()) or str(run.folder)
        notes.append(f"{name}: {run.reason}")
    return "\n".join(notes)


def _main(runs: Sequence[SweepRow]) -> tuple[str, ...]:
    return main_metrics({key for run in runs for key in run.measured})


def _title(text: str, metrics: Sequence[str]) -> str:
    return f"{text}, in percent" if all(METRIC[key].unit == Unit.PERCENT for key in metrics) else text


def _general(runs: Sequence[SweepRow]) -> RenderableType:
    keys, metrics = swept_keys(runs), _main(runs)
    rows = []
    for run in runs:
        last = " ".join(run.metrics.heads) if run.metrics else run.reason or "done"
        rows.append(Row([*_cells(run, keys, metrics), last], "red" if run.error else None))
    title = _title(f"Sweep of {len(runs)} runs", metrics)
    return fitted_table(title, [*_headings(keys, metrics), *words("heads")], rows, _caption(runs, listed=True))


def _table4(runs: Sequence[SweepRow]) -> RenderableType:
    ordered = sorted(runs, key=lambda run: _as_int(run.overrides.get("heads.k", "")))
    headings = [*label(""), *figures(*(f"k={run.overrides.get('heads.k', '?')}" for run in ordered))]
    rows, metrics = [], _main(runs)
    for metric, cells in zip(metrics, zip(*(run.cells(metrics) for run in ordered), strict=True), strict=True):
        # The interval on its own line: five of them side by side are wider than a terminal.
        name = METRIC[metric].label.replace(" ", "\n", 1)
        rows.append(Row([name, *(cell.replace(" [", "\n[", 1) for cell in cells)]))
    return fitted_table(_title("Head count k (Table 4)", metrics), headings, rows, _caption(runs, listed=False))


def _as_int(value: str) -> int:
    return int(value) if value.lstrip("-").isdigit() else 0


def _table5(runs: Sequence[SweepRow]) -> RenderableType:
    keys, metrics = ["selection", "criterion"], _main(runs)
    # sorted() is stable: within a selection the criteria keep the order of the command line.
    rows = [Row(_cells(run, keys, metrics)) for run in sorted(runs, key=lambda run: run.overrides.get("selection", ""))]
    title = _title("Criterion and selection (Table 5)", metrics)
    return fitted_table(title, _headings(keys, metrics), rows, _caption(runs, listed=False))


def _planted(runs: Sequence[SweepRow]) -> RenderableType:
    """Every choice of every audit with planted heads: whether it takes them, and what they cost."""
    rows = []
    for audit in (run.audit for run in runs if run.audit):
        planted = f"{len(audit.planted)} {audit.plant}" if audit.planted else "nothing"
        for choice, row in (("this run's settings", audit.base), *((row.value, row) for row in audit.effects)):
            rows.append(Row([planted, choice, *_planted_cells(audit, row)]))
    headings = [
        *label("planted", "choice"),
        *figures(METRIC[PRIMARY[0]].label, "by planting", "chosen"),
        *words("these heads"),
    ]
    title = "Heads planted that look at one spot, in percent"
    return fitted_table(title, headings, rows, _caption(runs, listed=False))


def _planted_cells(audit: AuditFile, row: AuditedChoice) -> tuple[str, str, str, str]:
    """Accuracy, what planting changed of it, how many of the chosen heads are planted, the verdict on them."""
    chosen = row.heads.split()
    taken = f"{len({*chosen} & {*audit.planted})} of {len(chosen)}"
    verdict = audit.follows.get(row.heads)
    changed = difference_cell(audit, row, PRIMARY[0], "planting") if audit.planted else ""
    return cell(audit, row, PRIMARY[0]), changed, taken, verdict.value if verdict else ""


def _headings(keys: Sequence[str], metrics: Sequence[str]) -> list[Column]:
    return [*label(*keys), *figures(*(METRIC[metric].label for metric in metrics))]


def _cells(run: SweepRow, keys: Sequence[str], metrics: Sequence[str]) -> list[str]:
    return [*(run.overrides.get(key, "") for key in keys), *run.cells(metrics)]
