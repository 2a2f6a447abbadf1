"""One table for all runs of a sweep. A failed run is a row with its reason, never a row less."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from locheads.evaluation.metric_table import ABSENT, METRIC, PRIMARY, Place, shown
from locheads.records.metrics_file import Estimate, MetricsRecord, few_legend
from locheads.terminal import new_table

TABLE4_KEYS = {"heads.k"}
TABLE5_KEYS = {"criterion", "selection"}


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep."""

    overrides: dict[str, str]
    """Setting -> value, as on the command line."""
    folder: Path
    metrics: dict[str, Any] | None
    """Content of metrics.json; None where the run did not get, or did not have to go, that far."""
    error: str | None
    """Why the run failed."""
    done_before: str | None = None
    """The earlier run that was taken over, because it had done the same."""
    digest: str | None = None
    """Of the run; the same for runs that have to give the same result."""

    def parsed(self) -> tuple[MetricsRecord | None, str]:
        """-> (metrics, or None where there are none; why the run failed in one line, or "")."""
        if self.error is None and self.metrics is None:
            return None, ""  # a stage that evaluates nothing
        if self.error is None and self.metrics is not None:
            try:
                return MetricsRecord.parse(self.metrics), ""
            except ValueError as error:
                return None, f"metrics.json is broken: {error}"
        return None, " ".join((self.error or "").split())


def sweep_table(runs: Sequence[SweepRow]) -> Table:
    """Table 4's layout for a sweep of heads.k, Table 5's for criterion x selection, else a row per run."""
    for keys, layout in ((TABLE4_KEYS, _table4), (TABLE5_KEYS, _table5)):
        if runs and (_all_keys(runs) == keys or set(swept_keys(runs)) == keys):
            return layout(runs)
    return _general(runs)


def sweep_frame(runs: Sequence[SweepRow]) -> pd.DataFrame:
    """One row per run: its overrides as text, each metric in [0, 1] with `_low` and `_high`, heads, error, and where
    the result comes from."""
    return pd.DataFrame([_frame_row(run) for run in runs])


def swept_keys(runs: Sequence[SweepRow]) -> list[str]:
    """The settings whose value differs between runs; all of them where there is only one run."""
    keys = list(dict.fromkeys(key for run in runs for key in run.overrides))
    if len(runs) < 2:
        return keys
    return [key for key in keys if len({run.overrides.get(key) for run in runs}) > 1]


def _all_keys(runs: Sequence[SweepRow]) -> set[str]:
    return {key for run in runs for key in run.overrides}


def _frame_row(run: SweepRow) -> dict[str, Any]:
    metrics, reason = run.parsed()
    row: dict[str, Any] = dict(run.overrides)
    for metric in shown(Place.PAGE):
        estimate = _own(metrics, metric)
        row[metric] = estimate.value if estimate else None
        row[f"{metric}_low"] = estimate.low if estimate else None
        row[f"{metric}_high"] = estimate.high if estimate else None
    heads = " ".join(metrics.heads) if metrics else None
    origin = {"digest": run.digest, "folder": str(run.folder), "done_before": run.done_before}
    return {**row, "heads": heads, "error": reason or None, **origin}


def _cell(run: SweepRow, metric: str) -> str:
    metrics, reason = run.parsed()
    estimate = _own(metrics, metric)
    return str(estimate) if estimate else "failed" if reason else ABSENT


def _own(metrics: MetricsRecord | None, metric: str) -> Estimate | None:
    """Of the method that the run is about."""
    return None if metrics is None else metrics.get(metrics.own() or "", metric)


def _captioned(title: str, runs: Sequence[SweepRow], listed: bool) -> Table:
    """An empty table whose caption names the common settings and, where the rows cannot, the failures."""
    swept = swept_keys(runs)
    common = {k: v for run in runs for k, v in run.overrides.items() if k not in swept}
    notes = [
        f"Brackets: {_confidence(runs)}interval over images.{few_legend(*(_cell(run, PRIMARY[0]) for run in runs))}"
    ]
    if common:
        notes.append("All runs: " + ", ".join(f"{k}={v}" for k, v in common.items()) + ".")
    if before := sum(run.done_before is not None for run in runs):
        notes.append(f"{before} of {len(runs)} runs were done before and are not run again (fresh=true would).")
    failed = [(run, reason) for run in runs if (reason := run.parsed()[1])]
    if failed:
        notes.append(f"{len(failed)} of {len(runs)} runs failed.")
    if not listed:
        notes += [f"{_name(run)}: {reason}" for run, reason in failed]
    return new_table(title, "\n".join(notes))


def _confidence(runs: Sequence[SweepRow]) -> str:
    levels = {metrics.confidence for run in runs if (metrics := run.parsed()[0])}
    return f"{100 * levels.pop():.0f} % " if len(levels) == 1 else ""


def _name(run: SweepRow) -> str:
    return " ".join(f"{k}={v}" for k, v in run.overrides.items()) or str(run.folder)


def _general(runs: Sequence[SweepRow]) -> Table:
    table = _captioned(f"Sweep of {len(runs)} runs, in percent", runs, listed=True)
    keys = swept_keys(runs)
    for key in keys:
        table.add_column(key, overflow="fold")
    for metric in PRIMARY:
        table.add_column(METRIC[metric].label, justify="right", no_wrap=True)
    table.add_column("heads", overflow="fold")
    for run in runs:
        metrics, reason = run.parsed()
        last = " ".join(metrics.heads) if metrics else reason or "done"
        cells = [run.overrides.get(key, "") for key in keys] + [_cell(run, m) for m in PRIMARY] + [last]
        table.add_row(*cells, style="red" if reason else None)
    return table


def _table4(runs: Sequence[SweepRow]) -> Table:
    table = _captioned("Head count k (Table 4), in percent", runs, listed=False)
    ordered = sorted(runs, key=lambda run: _as_int(run.overrides.get("heads.k", "")))
    table.add_column("", no_wrap=True)
    for run in ordered:
        table.add_column(f"k={run.overrides.get('heads.k', '?')}", justify="right")
    for metric in PRIMARY:
        # The interval on its own line: five of them side by side are wider than a terminal.
        label = METRIC[metric].label.replace(" ", "\n", 1)
        table.add_row(label, *(_cell(run, metric).replace(" [", "\n[", 1) for run in ordered))
    return table


def _as_int(value: str) -> int:
    return int(value) if value.lstrip("-").isdigit() else 0


def _table5(runs: Sequence[SweepRow]) -> Table:
    table = _captioned("Criterion and selection (Table 5), in percent", runs, listed=False)
    table.add_column("strategy", no_wrap=True)
    table.add_column("criterion", no_wrap=True)
    for metric in PRIMARY:
        table.add_column(METRIC[metric].label, justify="right", no_wrap=True)
    # sorted() is stable: within a strategy the criteria keep the order of the command line.
    ordered = sorted(runs, key=lambda run: run.overrides.get("selection", ""))
    for run in ordered:
        names = (run.overrides.get("selection", ""), run.overrides.get("criterion", ""))
        table.add_row(*names, *(_cell(run, m) for m in PRIMARY))
    return table
