"""From sums per choice and image to the audit's table, the effect of every option alone, and what comes closest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from locheads.audit.choice_grid import Choice
from locheads.audit.config import METRICS, AuditConfig
from locheads.audit.documented import DOCUMENTED, contradictions
from locheads.evaluation.intervals import difference_ends, sum_ratio, wilson_ends
from locheads.evaluation.metric_table import METRIC, PRIMARY

SHOWN = 10
"""Combinations that the record lists as best, and as closest."""


def audit_frame(
    choices: Sequence[Choice],
    sums: Float[np.ndarray, "choice image metric 2"],
    errors: Mapping[int, str],
    heads: Sequence[str],
    *,
    confidence: float,
    unplanted: Float[np.ndarray, "choice image metric 2"] | None = None,
) -> pd.DataFrame:
    """One row per choice: its settings, every metric (0 to 1) with interval, differences to the first choice.

    Intervals are over images, those of differences paired. A choice in `errors` has no numbers. With `unplanted`, the
    sums of every choice before heads were planted, differences to the choice itself are given, too.
    """
    options = list(dict.fromkeys(change.option for choice in choices for change in choice.changes))
    frame = pd.DataFrame([_settings(choice, options) for choice in choices])
    frame["heads"] = heads
    for i, metric in enumerate(METRICS):
        tops, bottoms = sums[:, :, i, 0], sums[:, :, i, 1]
        values = sum_ratio(tops, bottoms)
        frame[metric] = values
        frame[f"{metric}_low"], frame[f"{metric}_high"] = wilson_ends(tops, bottoms, confidence)
        if metric in PRIMARY:
            references = {"difference": (tops[:1], bottoms[:1])}
            if unplanted is not None:
                references["planting"] = (unplanted[:, :, i, 0], unplanted[:, :, i, 1])
            for name, reference in references.items():
                low, high = difference_ends(reference, (tops, bottoms), confidence)
                frame[f"{metric}_{name}"] = values - sum_ratio(*reference)
                frame[f"{metric}_{name}_low"], frame[f"{metric}_{name}_high"] = low, high
    frame["contradicts"] = ["; ".join(contradictions(choice)) for choice in choices]
    frame["error"] = [errors.get(i) for i in range(len(choices))]
    numbers = [column for column in frame.columns if column.startswith(METRICS)]
    frame.loc[frame["error"].notna(), numbers] = np.nan
    return frame


def _settings(choice: Choice, options: Sequence[str]) -> dict[str, Any]:
    changed = {change.option: change.label for change in choice.changes}
    return {
        "changes": "; ".join(f"{option}={label}" for option, label in changed.items()) or "none",
        **{option: changed.get(option) for option in options},
    }


def audit_record(
    choices: Sequence[Choice], frame: pd.DataFrame, audit: AuditConfig, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """audit.json."""
    fine = frame[frame["error"].isna()]
    rising = not METRIC[audit.metric].higher_is_better
    best = fine.sort_values(audit.metric, ascending=rising, kind="stable").head(SHOWN)
    record = {
        **facts,
        "metric": audit.metric,
        "target": audit.target,
        "n_choices": len(choices),
        "n_failed_choices": len(frame) - len(fine),
        "base": _row(frame.iloc[0]),
        "base_contradicts": contradictions(choices[0]),
        "effects": [_effect(choices[i], frame.iloc[i]) for i in range(len(choices)) if len(choices[i].changes) == 1],
        "best": [_row(row) for _, row in best.iterrows()],
        "closest": [],
    }
    if audit.target is not None:
        distance = (fine[audit.metric] - audit.target).abs()
        # Of equally close ones, those that contradict the paper least.
        order = pd.DataFrame({"d": distance.round(12), "c": fine["contradicts"].str.count(r"\(paper")})
        nearest = fine.loc[order.sort_values(["d", "c"], kind="stable").index[:SHOWN]]
        record["closest"] = [_row(row) for _, row in nearest.iterrows()]
    return record


def _effect(choice: Choice, row: pd.Series) -> dict[str, Any]:
    change = choice.changes[0]
    documented = any(f"{change.group}.{key}" in DOCUMENTED for key in change.values)
    return {"option": change.option, "value": change.label, "documented": documented, **_row(row)}


def _row(row: pd.Series) -> dict[str, Any]:
    numbers: dict[str, dict[str, Any]] = {metric: _estimate(row, metric) for metric in METRICS}
    for metric in numbers.keys() & set(PRIMARY):
        for name in ("difference", "planting"):
            numbers[metric][name] = _estimate(row, f"{metric}_{name}") if f"{metric}_{name}" in row else None
    return {
        "changes": row["changes"],
        "heads": row["heads"],
        "metrics": numbers,
        "contradicts": [part for part in row["contradicts"].split("; ") if part],
        "error": None if pd.isna(row["error"]) else str(row["error"]),
    }


def _estimate(row: pd.Series, name: str) -> dict[str, Any]:
    """A column's value with the ends of its interval; None for NaN."""
    columns = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    return {key: None if pd.isna(row[column]) else float(row[column]) for key, column in columns.items()}
