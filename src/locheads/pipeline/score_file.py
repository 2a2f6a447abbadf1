"""predictions=FILE: another model's boxes or masks, scored as the heads are. No model loads."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from locheads.config import Config, Pages, Stage
from locheads.data.annotation_files import sha256_of
from locheads.data.config import WHERE_IT_LIES, PredictionsConfig
from locheads.data.headers import check_headers
from locheads.data.image_groups import may_name_several, with_heat
from locheads.data.own_reader import DataSetReader
from locheads.data.prediction_files import Answer, frame_of, read_predictions
from locheads.data.review import flags_of
from locheads.errors import DataError
from locheads.evaluation.box_format_check import BoxFormatMonitor
from locheads.evaluation.metric_table import POINTS, PREDICTIONS
from locheads.evaluation.rows import of_candidates
from locheads.evaluation.truth import score_answers
from locheads.pipeline.inputs import chosen, image_folders, open_dataset
from locheads.pipeline.receipt import write_receipt
from locheads.pipeline.repeats import repeats_of
from locheads.pipeline.run_files import OWN, box_format_record, metrics_record, table_of, write_parquet, writing
from locheads.pipeline.run_life import Status, recorded_provenance
from locheads.records.provenance_file import SamplesFile
from locheads.report.html import write_report
from locheads.store.digest import json_digest
from locheads.terminal import track
from locheads.types import ImageGroup

log = logging.getLogger(__name__)


@dataclass
class _Read:
    """What a file held, counted on the way."""

    n_lines: int = 0
    n_scored: int = 0
    """Boxes that have a score."""
    n_answers: int = 0
    """Those of them that are answers of an expression that may name several objects."""

    def add(self, answer: Answer) -> None:
        self.n_lines += 1
        if answer.all is not None and answer.all.scores:
            self.n_scored += len(answer.all.scores)
            self.n_answers += answer.all.n_answered

    def note(self, form: PredictionsConfig) -> str:
        return (
            f"Of {self.n_scored:,} boxes with scores the {self.n_answers:,} of at least {form.min_score:g} are the "
            "answers (predictions_format.min_score)."
        )


def score_file(config: Config, folder: Path, status: Status) -> None:
    """Scores the file and writes predictions.parquet, scores.parquet, samples.json, metrics.json and report.html.

    Raises:
        LocHeadsError: whatever a user can correct, as one sentence.
    """
    with recorded_provenance(folder) as record, status.stage(Stage.evaluate):
        path, data = _file(config), open_dataset(config.dataset, config.paths, config.seed)
        split = data.read(config.dataset.split)
        if with_heat(split):
            raise DataError(
                f"predictions={path} holds boxes, masks or points, but the truth of {config.dataset.name} is heat "
                "maps: nothing of the file can be scored."
            )
        folders = image_folders(config.dataset, config.paths)
        data.notes = [*data.notes, *check_headers(chosen(split, config), folders)]
        record |= _identity(config, path, data, split)
        _score(config, folder, path, split, data)
    status.finish()
    if config.report.pages != Pages.never:
        write_report(folder)
    write_receipt(folder, {}, 0)  # of an empty key: no sweep takes it over


def _file(config: Config) -> Path:
    path = Path(config.predictions or "")
    if not path.is_file():
        raise DataError(f"predictions={path} is no file: give a JSONL or CSV file of boxes or masks.")
    return path


def _identity(config: Config, path: Path, data: DataSetReader, split: list[ImageGroup]) -> dict[str, Any]:
    """What provenance.json says of the data and the file; the digest is equal where the figures must be."""
    form = {key: getattr(value, "value", value) for key, value in vars(config.predictions_format).items()}
    predictions = {"file": str(path), "sha256": sha256_of([path]), "format": form}
    dataset = {"name": config.dataset.name, "annotations_sha256": data.digest, "notes": list(data.notes)}
    dataset |= {key: getattr(config.dataset, key) for key in ("split", "limit", "offset", "shuffle")}
    # Whatever may change what is read of the files, less where they lie.
    read = {key: value for key, value in dataclasses.asdict(config.dataset).items() if key not in WHERE_IT_LIES}
    settings = [predictions["sha256"], form, dataset, read, dataclasses.asdict(config.evaluation), config.seed]
    settings += flags_of(split)
    return {
        "digest": json_digest(settings),
        "predictions": predictions,
        "dataset": dataset,
        "seeds": {"seed": config.seed},
    }


def _score(config: Config, folder: Path, path: Path, split: list[ImageGroup], data: DataSetReader) -> None:
    evaluated = chosen(split, config)
    ids = tuple(sample.sample_id for group in evaluated for sample in group.samples)
    repeats = repeats_of(evaluated)
    SamplesFile(split=config.dataset.split, evaluated=ids, repeats=repeats, notes=tuple(data.notes)).write(folder)
    sizes = {sample.sample_id: (group.width, group.height) for group in split for sample in group.samples}
    what = f"the split {config.dataset.split} of {config.dataset.name}"
    form = config.predictions_format
    monitor = BoxFormatMonitor(form.box_format, form.frame, "predictions_format.box_format")
    tracked = track(read_predictions(path, form, sizes, what), "evaluate", "predictions", _lines(path))
    read = _Read()
    answers = _monitored(tracked, evaluated, monitor, form, read)
    method = PREDICTIONS if form.point_format is None else POINTS
    absent = f"{path.name} has no prediction for it"
    parts = []
    more = of_candidates(evaluated)
    with writing(folder / OWN, more=more) as write:
        for rows, scored in score_answers(answers, evaluated, absent, method):
            write(table_of(rows, more=more))
            parts.append(scored)
    scores = pd.concat(parts, ignore_index=True)
    write_parquet(folder / "scores.parquet", scores)
    n_missing = int((scores["error"] == absent).sum())
    n_other = read.n_lines - (len(scores) - n_missing)
    if n_missing or n_other:
        log.warning("%s lacks %d samples (misses), and has %d that are not evaluated.", path, n_missing, n_other)
    counts = {"n_missing": n_missing, "n_not_evaluated": n_other} | box_format_record(monitor)
    if read.n_scored and may_name_several(evaluated):
        counts["notes"] = [*counts["notes"], read.note(form)]
    metrics_record(scores, config, method, **counts).write(folder)


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(bool(line.strip()) for line in stream) - (path.suffix == ".csv")


def _monitored(
    answers: Iterable[Answer],
    evaluated: list[ImageGroup],
    monitor: BoxFormatMonitor,
    form: PredictionsConfig,
    read: _Read,
) -> Iterator[Answer]:
    """The answers, looked at on their way."""
    several = may_name_several(evaluated)
    # Only of a single object it is known which box was meant.
    single = ((group, sample) for group in evaluated for sample in group.samples if len(sample.objects) == 1)
    samples = {sample.sample_id: (group, sample) for group, sample in single}
    for answer in answers:
        read.add(answer)
        # A box that is a mask's was not written.
        unwritten = answer.written is None and answer.box is not None
        if answer.sample_id in samples and not unwritten and answer.point is None:
            group, sample = samples[answer.sample_id]
            written = answer.written and replace(answer.written, several=answer.written.several and not several)
            monitor.add(written, group, sample, frame_of(form, group.width, group.height))
        yield answer
