"""predictions=FILE: another model's boxes or masks, scored as the heads are. No model loads."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from locheads.config import Config, Pages, Stage
from locheads.data.annotation_files import sha256_of
from locheads.data.config import WHERE_IT_LIES, PredictionsConfig
from locheads.data.headers import check_headers
from locheads.data.image_groups import with_heat
from locheads.data.own_reader import DataSetReader
from locheads.data.prediction_files import Answer, frame_of, read_predictions
from locheads.data.review import flags_of
from locheads.errors import DataError
from locheads.evaluation.box_format_check import BoxFormatMonitor
from locheads.evaluation.metric_table import POINTS, PREDICTIONS
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
    read: list[str] = []
    answers = _monitored(tracked, evaluated, monitor, form, read)
    method = PREDICTIONS if form.point_format is None else POINTS
    absent = f"{path.name} has no prediction for it"
    parts = []
    with writing(folder / OWN) as write:
        for rows, scored in score_answers(answers, evaluated, absent, method):
            write(table_of(rows))
            parts.append(scored)
    scores = pd.concat(parts, ignore_index=True)
    write_parquet(folder / "scores.parquet", scores)
    n_missing = int((scores["error"] == absent).sum())
    n_other = len(read) - (len(scores) - n_missing)
    if n_missing or n_other:
        log.warning("%s lacks %d samples (misses), and has %d that are not evaluated.", path, n_missing, n_other)
    more = {"n_missing": n_missing, "n_not_evaluated": n_other} | box_format_record(monitor)
    metrics_record(scores, config, method, **more).write(folder)


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(bool(line.strip()) for line in stream) - (path.suffix == ".csv")


def _monitored(
    answers: Iterable[Answer],
    evaluated: list[ImageGroup],
    monitor: BoxFormatMonitor,
    form: PredictionsConfig,
    read: list[str],
) -> Iterator[Answer]:
    """The answers, looked at on their way; `read` gets the id of each."""
    # Only of a single object it is known which box was meant.
    single = ((group, sample) for group in evaluated for sample in group.samples if len(sample.objects) == 1)
    samples = {sample.sample_id: (group, sample) for group, sample in single}
    for answer in answers:
        read.append(answer.sample_id)
        # A box that is a mask's was not written.
        unwritten = answer.written is None and answer.box is not None
        if answer.sample_id in samples and not unwritten and answer.point is None:
            group, sample = samples[answer.sample_id]
            monitor.add(answer.written, group, sample, frame_of(form, group.width, group.height))
        yield answer
