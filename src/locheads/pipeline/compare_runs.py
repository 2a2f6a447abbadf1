"""stage=compare: two finished runs on the same samples, from their scores.parquet alone."""

import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from pandas.api.types import is_numeric_dtype
from rich.console import RenderableType

from locheads.config import Config, Stage
from locheads.errors import ConfigError, DataError, StoreError
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.heat_metrics import HEAT_METRICS
from locheads.evaluation.intervals import POWER, Difference, compare
from locheads.evaluation.metric_table import ABSENT, METRIC, OBJECTS, OWN_METHODS, Place, measured, shown
from locheads.fitted_table import Row, figures, fitted_table, label
from locheads.pipeline.run_life import Status
from locheads.records.command_files import ComparedRun, CompareFile, LeftOut
from locheads.records.metrics_file import few_legend, few_mark, p_text
from locheads.records.receipt_file import read_receipt, refuse_changed
from locheads.report.interval_words import level_of
from locheads.terminal import console, track

log = logging.getLogger(__name__)

COMPARED = shown(Place.COMPARE)
_TRUTH = ["image_id", "true_x0", "true_y0", "true_x1", "true_y1"]
_ALWAYS = ("box_iou", "intersection", "union")
_ANSWERS = list(
    dict.fromkeys([*_ALWAYS, *(column for metric in COMPARED.values() for column in metric.columns), OBJECTS])
)


@dataclass(frozen=True)
class Scored:
    """The rows of one run's own method, by sample id."""

    folder: Path
    method: str
    rows: pd.DataFrame


def compare_two(config: Config, folder: Path, status: Status) -> None:
    """stage=compare: prints the table and writes compare.json.

    Raises:
        LocHeadsError: there are not two runs, one is not finished, or they share no sample.
    """
    with status.stage(Stage.compare):
        record = compare_runs(config)
        record.write(folder)
        console.print(table(record))


def compare_runs(config: Config) -> CompareFile:
    """compare.json: every metric of COMPARED that both runs have, on the samples that both have."""
    if len(config.runs) != 2:
        raise ConfigError(
            f"stage=compare needs two run folders, not {len(config.runs)}: runs=[outputs/default/A,outputs/default/B]."
        )
    first_run, second_run = map(Path, config.runs)
    refuse_the_same(first_run, second_run)
    a, b = read_scores(first_run), read_scores(second_run)
    shared = common_samples(a, b)
    first, second = a.rows.loc[shared], b.rows.loc[shared]
    left_out = LeftOut(a=len(a.rows) - len(shared), b=len(b.rows) - len(shared))
    if left_out.a or left_out.b:
        log.warning("The runs share %d samples; %d of a and %d of b are left out.", len(shared), left_out.a, left_out.b)
    return CompareFile(
        a=ComparedRun(run=str(a.folder), method=a.method),
        b=ComparedRun(run=str(b.folder), method=b.method),
        n_expressions=len(shared),
        n_images=int(first["image_id"].nunique()),
        left_out=left_out,
        confidence=config.evaluation.confidence,
        resamples=config.evaluation.resamples,
        seed=config.seed,
        power=POWER,
        metrics=_metrics((a.method, first), (b.method, second), config.evaluation, config.seed),
    )


def refuse_the_same(a: Path, b: Path) -> None:
    """Raises ConfigError where both folders hold the result of one run: it cannot differ from itself. Raises StoreError
    where a receipt is damaged."""
    scores = [run / "scores.parquet" for run in (a, b)]
    if a.resolve() == b.resolve() or (all(path.is_file() for path in scores) and scores[0].samefile(scores[1])):
        raise ConfigError(f"{a} and {b} are the same run, which does not differ from itself: name two runs.")
    keys = [receipt.key if (receipt := read_receipt(run)) else {} for run in (a, b)]
    if keys[0] and keys[0] == keys[1]:  # scored files have an empty one: their runs differ in the file
        raise ConfigError(
            f"{a} and {b} are one run done twice or copied (settings, model, data and code are the same): it does not "
            "differ from itself. Name two runs."
        )


def read_scores(folder: Path) -> Scored:
    """Raises StoreError where the folder holds no scores of a run, or other scores than the run wrote."""
    path = folder / "scores.parquet"
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder: give the run folders that `python run.py` printed.")
    if not (folder / "status.json").is_file():
        raise StoreError(f"{folder} is no run folder: give one that `python run.py` printed.")
    if not path.is_file():
        raise StoreError(f"{folder} has no scores.parquet: finish the run with stage=evaluate or later.")
    if not refuse_changed(folder, [path.name]):
        log.warning("%s has no receipt.json (an interrupted run, or an earlier version's): it is not checked.", folder)
    try:
        names = pq.read_schema(path).names
        always, truth = (HEAT_METRICS, _TRUTH[:1]) if {*HEAT_METRICS} <= {*names} else (_ALWAYS, _TRUTH)
        answers = [name for name in _ANSWERS if name in names or name in always]
        rows = pd.read_parquet(path, columns=list(dict.fromkeys(["method", "sample_id", *truth, *answers])))
    # pyarrow raises its own errors, OSError or ValueError, by where the damage is.
    except Exception as error:
        raise StoreError(f"{path} cannot be read ({type(error).__name__}): run that evaluation again.") from error
    method = next((m for m in OWN_METHODS if (rows["method"] == m).any()), None)
    if method is None:
        raise StoreError(f"{path} holds no row of {', '.join(OWN_METHODS)}: run that evaluation again.")
    own = rows[rows["method"] == method].set_index("sample_id")
    if not own.index.is_unique or not _are_numbers(own[answers]) or own[[*always]].isna().any(axis=None):
        raise StoreError(f"{path} is damaged (a sample twice, or no number as a score): run that evaluation again.")
    return Scored(folder, method, own.drop(columns="method"))


def _are_numbers(columns: pd.DataFrame) -> bool:
    return all(map(is_numeric_dtype, columns.dtypes))


def common_samples(a: Scored, b: Scored) -> pd.Index:
    """The ids of the samples that both runs scored. Raises DataError where they are not the same samples."""
    shared = a.rows.index.intersection(b.rows.index)
    if not len(shared):
        raise DataError(f"{a.folder} and {b.folder} share no sample: compare runs on the same data set and split.")
    truth = [name for name in _TRUTH if name in a.rows and name in b.rows]  # of heat maps the image alone
    differs = (a.rows.loc[shared, truth] != b.rows.loc[shared, truth]).any(axis=1)
    if differs.any():
        raise DataError(
            f"{a.folder} and {b.folder} are about different data: sample {shared[differs][0]} has another image or "
            f"true box in each ({int(differs.sum())} of {len(shared)} do). Compare runs on the same data set and split."
        )
    return shared


def table(record: CompareFile) -> RenderableType:
    """compare.json as a table for the terminal, in percent; "images" is what so large a difference takes."""
    rows = []
    for metric, found in record.metrics.items():
        text = METRIC[metric].unit.text
        cells = [
            text(found.a),
            text(found.b),
            f"{text(found.difference, '+')}{few_mark(record.n_images)}",
            f"[{text(found.low, '+')}, {text(found.high, '+')}]",
            p_text(found.p).removeprefix("p\u00a0").removeprefix("=\u00a0"),
            f"{found.need.images:,}" if found.need else ABSENT,
            f"{found.design_effect:.2f}",
        ]
        rows.append(Row([METRIC[metric].label, *cells]))
    headings = [
        *label("percent"),
        *figures("a", "b", "b - a", "interval", "p", "images\nneeded", "design\neffect"),
    ]
    return fitted_table(f"a: {record.a.run}\nb: {record.b.run}", headings, rows, _caption(record))


def _metrics(
    a: tuple[str, pd.DataFrame], b: tuple[str, pd.DataFrame], config: EvaluationConfig, seed: int
) -> dict[str, Difference]:
    images, _ = pd.factorize(a[1]["image_id"], sort=True)
    # Of the two methods only what both have: a file of predictions has no map to point with.
    of_a, of_b = ({metric.key for metric in measured(method, rows.columns)} for method, rows in (a, b))
    both = [metric for key, metric in COMPARED.items() if key in of_a & of_b]
    if not both:
        raise DataError("One of the runs is about points, the other about boxes: they share no measure.")
    found = {}
    for metric in track(both, "compare", "metrics"):
        one, two = (metric.parts(rows) for _, rows in (a, b))
        found[metric.key] = compare(
            one, two, images, confidence=config.confidence, resamples=config.resamples, seed=seed
        )
    return found


def _caption(record: CompareFile) -> str:
    left_out = record.left_out
    rest = f" Left out: {left_out.a} of a and {left_out.b} of b." if left_out.a or left_out.b else ""
    return (
        f"{record.n_expressions} expressions on {record.n_images} images that both runs answered.{rest} "
        f"Intervals ({level_of(record.confidence)}) are over images, p flips the runs per image. "
        f"Needed: images that show a difference as large as this one {100 * record.power:.0f} times in 100; "
        f"the design effect is what expressions of the same image cost.{few_legend(few_mark(record.n_images))}"
    )
