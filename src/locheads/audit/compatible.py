"""Which readings are compatible with every target: a set with its size, because one figure cannot identify one of
hundreds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from locheads.audit.choice_grid import Change, Choice
from locheads.audit.config import METRICS
from locheads.audit.targets import Target
from locheads.errors import ConfigError
from locheads.evaluation.intervals import sum_ratio, wilson_p
from locheads.records.audit_file import AuditFile, AuditTarget

ROUNDING = 0.0005
"""A published figure has one decimal of a percent."""
P = "target_{}_p"
"""Columns of audit.parquet: how compatible a reading is with one target, see `wilson_p`."""


@dataclass(frozen=True)
class Variants:
    """What is measured for the targets besides the readings themselves."""

    choices: tuple[Choice, ...]
    """The readings first, then those with the targets' own settings; none twice."""
    at: Int[np.ndarray, "reading target"]
    """Where each target's measurement of each reading stands among them."""


def variants(readings: Sequence[Choice], changes: Sequence[Sequence[Change]]) -> Variants:
    """`changes`: of each target."""
    place = {choice.key: i for i, choice in enumerate(readings)}
    choices, at = list(readings), np.empty((len(readings), len(changes)), dtype=int)
    for i, reading in enumerate(readings):
        for j, own in enumerate(changes):
            choice = reading.changed(*own)
            if place.setdefault(choice.key, len(choices)) == len(choices):
                choices.append(choice)
            at[i, j] = place[choice.key]
    return Variants(tuple(choices), at)


def target_columns(
    targets: Sequence[Target],
    at: Int[np.ndarray, "reading target"],
    sums: Float[np.ndarray, "choice image metric 2"],
    impossible: Sequence[int],
) -> dict[str, Float[np.ndarray, "reading"]]:
    """Per target the columns of audit.parquet: what each reading gives, and how compatible that is.

    A reading is as compatible with a figure as with the nearest number that is printed so; one of the `impossible`
    choices with none.
    """
    columns = {}
    for j, target in enumerate(targets):
        metric = METRICS.index(target.metric)
        tops, bottoms = (sums[at[:, j], :, metric, part] for part in (0, 1))
        values = sum_ratio(tops, bottoms)
        nearest = np.clip(values, target.value - ROUNDING, target.value + ROUNDING)
        failed = np.isin(at[:, j], list(impossible))
        columns[f"target_{j}"] = np.where(failed, np.nan, values)
        columns[P.format(j)] = np.where(failed, 0.0, wilson_p(tops, bottoms, nearest))
    return columns


def compatible(p: Float[np.ndarray, "reading target"], confidence: float) -> Bool[np.ndarray, "reading"]:
    """The readings that no target rules out: each is held against the share of 1 - confidence that is its own
    (Bonferroni), so that the reading by which all targets were made is among them with `confidence`."""
    return (p >= (1 - confidence) / max(p.shape[1], 1)).all(axis=1)


def in_common(frame: pd.DataFrame, own: Mapping[str, str], chosen: Bool[np.ndarray, "reading"]) -> list[dict[str, Any]]:
    """How often each value of an option is among the chosen readings, and among all; those first whose share differs
    most. `own`: per option the value of the run's own settings."""
    rows = []
    for option, own_value in own.items():
        values = frame[option].fillna(own_value)
        for value, readings in values.value_counts().items():
            members = int((values[chosen] == value).sum())
            rows.append({"option": option, "value": str(value), "members": members, "readings": int(readings)})
    share = lambda row: abs(row["members"] / max(chosen.sum(), 1) - row["readings"] / len(frame))  # noqa: E731
    return sorted(rows, key=share, reverse=True)


def beside(folder: Path, frame: pd.DataFrame) -> tuple[list[AuditTarget], Float[np.ndarray, "reading target"]]:
    """-> (the targets of another finished audit, its p in the order of `frame`).

    Raises StoreError for a folder without an audit, ConfigError for one without targets, or that lacks a reading.
    """
    audit = AuditFile.read(folder)
    own = [target for target in audit.targets if not target.beside]
    if not own:
        raise ConfigError(f"audit.beside: {folder} has no target: audit it with audit.target or audit.targets.")
    other = pd.read_parquet(folder / "audit.parquet").set_index("changes")
    if lacking := len(set(frame["changes"]) - set(other.index)):
        raise ConfigError(
            f"audit.beside: {folder} lacks {lacking} of the {len(frame)} combinations: give it the same audit.grid, "
            "audit.single, audit.mode, audit.n and audit.seed."
        )
    return own, other.loc[frame["changes"], [P.format(j) for j in range(len(own))]].to_numpy()
