"""The paper's figures for a model, as targets of an audit."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from locheads.audit.targets import Target
from locheads.errors import ConfigError, StoreError

ABLATED_MODEL, ABLATED_ON = "LLaVA-1.5-13B", ("refcoco", "val")
"""Tables 5 and 8 are printed without a model; their row of defaults is what Tables 1 and 2 print for this one."""
REC, RES = "rec_acc@0.5", "res_ciou"
CRITERIA = {"s_img": "s_img", "entropy": "entropy", "s_img+entropy": "s_img_entropy"}
"""Table 5's words -> criterion.score."""


def paper_targets(studies: Path, model: str, data: tuple[str, str], metrics: Sequence[str]) -> list[Target]:
    """The figures of the paper's Tables 1, 2, 4, 5 and 8 for a model on (data set, split), each measurement once.

    Args:
        studies: the folder with the studies' paper.csv.
        model: as the paper writes it, such as LLaVA-1.5-7B.
        metrics: those that are wanted.

    Raises:
        StoreError: a paper.csv that cannot be read.
        ConfigError: the paper has no such figure.
    """
    found = [
        Target(metric, value, {}, f"{table}, {' '.join(data)}")
        for table, metric in (("table1_rec", REC), ("table2_res", RES))
        for value in _figures(studies, table, {"method": model}, "_".join(data))
    ]
    if data == ABLATED_ON:
        found += _ablated(studies, model)
    distinct: dict[tuple[str, str], Target] = {}
    for target in found:
        if target.metric in metrics:
            distinct.setdefault((target.metric, target.changed), target)
    if not distinct:
        raise ConfigError(
            f"audit.paper={model}: the paper has no figure of {', '.join(metrics)} for it on {' '.join(data)}."
        )
    return list(distinct.values())


def _ablated(studies: Path, model: str) -> list[Target]:
    """Tables 4, 5 and 8, which are of RefCOCO val; each figure with the one setting that its table varies."""
    found = [
        Target(RES, value, {"heads.k": k}, "table4_head_count")
        for k in range(1, 6)
        for value in _figures(studies, "table4_head_count", {"model": model}, f"k{k}")
    ]
    if model != ABLATED_MODEL:
        return found
    for metric, column in ((REC, "rec_acc50"), (RES, "res_ciou")):
        for kind, (words, score) in product(("greedy", "fixed"), CRITERIA.items()):
            own = {"selection.kind": kind, "criterion.score": score}
            rows = {"strategy": kind, "criterion": words}
            found += [
                Target(metric, v, own, "table5_criteria") for v in _figures(studies, "table5_criteria", rows, column)
            ]
        for row in _table(studies, "table8_smoothing").to_dict("records"):
            number = float(row["value"]) if row["parameter"] == "sigma" else int(row["value"])
            value = round(float(row[column]) / 100, 6)
            found.append(Target(metric, value, {f"grounding.{row['parameter']}": number}, "table8_smoothing"))
    return found


def _figures(studies: Path, table: str, of: Mapping[str, str], column: str) -> list[float]:
    """The figure of a row and column as a share, if the table has it."""
    frame = _table(studies, table)
    if column not in frame or not set(of) <= set(frame.columns):
        return []
    rows = frame[(frame[[*of]] == pd.Series(of)).all(axis=1)]
    return [round(float(text) / 100, 6) for text in rows[column] if text]


def _table(studies: Path, table: str) -> pd.DataFrame:
    """Raises StoreError where it cannot be read."""
    path = studies / table / "paper.csv"
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): paths.studies must be the folder experiments/.") from error
