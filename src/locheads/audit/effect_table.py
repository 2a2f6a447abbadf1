"""From sums per choice and image to the audit's table, the effect of every option alone, and which readings are best
and which compatible with the targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from locheads.audit.choice_grid import Choice, text
from locheads.audit.compatible import compatible, in_common
from locheads.audit.config import GROUPS, METRICS, AuditConfig
from locheads.audit.confirmation import SPLITS, confirming, picked_again
from locheads.audit.documented import DOCUMENTED, contradictions
from locheads.audit.targets import Target
from locheads.evaluation.intervals import difference_ends, sum_ratio, wilson_ends
from locheads.evaluation.joint_intervals import joint_confidence
from locheads.evaluation.metric_table import METRIC, PRIMARY
from locheads.records.audit_file import AuditTarget

SHOWN = 10
"""Combinations that the record lists as best, and as compatible."""
OPTIONS = tuple(f"{group}." for group in GROUPS)
"""How the columns of options begin."""


def audit_frame(
    choices: Sequence[Choice],
    sums: Float[np.ndarray, "choice image metric 2"],
    errors: Mapping[int, str],
    heads: Sequence[str],
    *,
    confidence: float,
    joint: Mapping[str, float],
    unplanted: Float[np.ndarray, "choice image metric 2"] | None = None,
) -> pd.DataFrame:
    """One row per choice: its settings, every metric (0 to 1) with interval, differences to the first choice.

    Intervals are over images, those of differences paired; `joint`: see `joint_confidences`. A choice in `errors` has
    no numbers. With `unplanted`, the sums of every choice before heads were planted, differences to the choice itself
    are given, too.
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
            low, high = difference_ends(references["difference"], (tops, bottoms), joint[metric])
            frame[f"{metric}_difference_joint_low"], frame[f"{metric}_difference_joint_high"] = low, high
    frame["contradicts"] = ["; ".join(contradictions(choice)) for choice in choices]
    frame["error"] = [errors.get(i) for i in range(len(choices))]
    numbers = [column for column in frame.columns if column.startswith(METRICS)]
    frame.loc[frame["error"].notna(), numbers] = np.nan
    return frame


def joint_confidences(
    sums: Float[np.ndarray, "choice image metric 2"], errors: Mapping[int, str], confidence: float, seed: int
) -> dict[str, float]:
    """Of each primary metric the confidence of every difference to the first choice with which all hold at once."""
    fine = np.array([i for i in range(len(sums)) if i not in errors])
    result = {}
    for metric in PRIMARY:
        tops, bottoms = (sums[fine, :, METRICS.index(metric), part] for part in (0, 1))
        base = sums[:1, :, METRICS.index(metric), 0], sums[:1, :, METRICS.index(metric), 1]
        result[metric] = joint_confidence(base, (tops, bottoms), confidence, seed)
    return result


def _settings(choice: Choice, options: Sequence[str]) -> dict[str, Any]:
    changed = {change.option: change.label for change in choice.changes}
    return {
        "changes": "; ".join(f"{option}={label}" for option, label in changed.items()) or "none",
        **{option: changed.get(option) for option in options},
    }


def audit_record(
    choices: Sequence[Choice], frame: pd.DataFrame, audit: AuditConfig, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """audit.json, but for the readings that are best (`picked_record`) or compatible (`compatible_record`)."""
    return {
        **facts,
        "metric": audit.metric,
        "target": audit.target,
        "n_choices": len(choices),
        "n_failed_choices": int(frame["error"].notna().sum()),
        "base": _row(frame.iloc[0]),
        "base_contradicts": contradictions(choices[0]),
        "effects": [_effect(choices[i], frame.iloc[i]) for i in range(len(choices)) if len(choices[i].changes) == 1],
    }


def picked_record(
    frame: pd.DataFrame,
    sums: Float[np.ndarray, "choice image metric 2"],
    audit: AuditConfig,
    target: Target | None,
    confidence: float,
) -> dict[str, Any]:
    """The best readings, picked on some images and confirmed on the others, and how often halves pick the same."""
    metric, fine = METRIC[audit.metric], np.flatnonzero(frame["error"].isna())
    tops, bottoms = (sums[fine, :, METRICS.index(audit.metric), part] for part in (0, 1))
    confirm = confirming(sums.shape[1], audit.confirmation, audit.seed)
    on_picking = sum_ratio(tops[:, ~confirm], bottoms[:, ~confirm])
    first = np.argsort(-on_picking if metric.higher_is_better else on_picking, kind="stable")[:SHOWN]
    best = [
        _row(frame.iloc[fine[i]])
        | {
            "picked": float(on_picking[i]),
            "confirmed": with_difference(tops[[0, i]][:, confirm], bottoms[[0, i]][:, confirm], confidence),
        }
        for i in first
    ]
    again = {"splits": SPLITS, "best": picked_again(tops, bottoms, audit.seed, None, metric.higher_is_better)}
    closest = []
    if target is not None and target.metric == audit.metric and not target.settings:
        again["closest"] = picked_again(tops, bottoms, audit.seed, target.value)
        closest = [_row(frame.iloc[_by_distance(frame.iloc[fine], target)[0]])]
    return {"best": best, "closest": closest, "again": again, "n_confirming": int(confirm.sum())}


def with_difference(
    tops: Float[np.ndarray, "2 image"], bottoms: Float[np.ndarray, "2 image"], confidence: float
) -> dict[str, Any]:
    """Of the second with its difference to the first, the run's own settings."""
    (low, high), value = wilson_ends(tops[1], bottoms[1], confidence), sum_ratio(tops, bottoms)
    ends = difference_ends((tops[0], bottoms[0]), (tops[1], bottoms[1]), confidence)
    difference = {"value": float(value[1] - value[0]), "low": float(ends[0]), "high": float(ends[1])}
    return {"value": float(value[1]), "low": float(low), "high": float(high), "difference": difference}


def _by_distance(frame: pd.DataFrame, target: Target) -> list[int]:
    """Labels of the rows, the closest to the target first; of equally close ones, those that contradict the paper
    least."""
    distance = (frame[target.metric] - target.value).abs().round(12)
    order = pd.DataFrame({"d": distance, "c": frame["contradicts"].str.count(r"\(paper")})
    return [int(i) for i in order.sort_values(["d", "c"], kind="stable").index]


def compatible_record(
    base: Choice,
    frame: pd.DataFrame,
    targets: Sequence[AuditTarget],
    p: Float[np.ndarray, "reading target"],
    confidence: float,
) -> dict[str, Any]:
    """The readings that are compatible with all targets. `base`: the first; `p`: see `compatible`. Marks them in a
    column of `frame`."""
    chosen = compatible(p, confidence)
    frame["compatible"] = chosen
    least = frame[chosen]["contradicts"].str.count(r"\(paper").sort_values(kind="stable").index[:SHOWN]
    own = {column: text(base.setting(column)) for column in frame.columns if column.startswith(OPTIONS)}
    alone = [int(compatible(p[:, [j]], confidence).sum()) for j in range(len(targets))]
    return {
        "targets": [t.model_copy(update={"alone": n}).model_dump() for t, n in zip(targets, alone, strict=True)],
        "n_compatible": int(chosen.sum()),
        "compatible": [_row(frame.loc[i]) for i in least],
        "in_common": in_common(frame, own, chosen) if chosen.any() else [],
    }


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
    joint = {f"joint_{end}": f"{name}_joint_{end}" for end in ("low", "high")}
    columns |= {key: column for key, column in joint.items() if column in row}
    return {key: None if pd.isna(row[column]) else float(row[column]) for key, column in columns.items()}
