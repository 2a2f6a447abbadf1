"""predictions=FILE: another model's boxes or masks, scored as the heads are. No model loads."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from locheads.config import Config, Stage, check
from locheads.data.choices import WHERE_IT_LIES
from locheads.data.headers import check_headers
from locheads.data.predictions import Answer, read_predictions
from locheads.data.records import sha256_of
from locheads.errors import DataError
from locheads.evaluation.external import score_answers
from locheads.evaluation.methods import PREDICTIONS
from locheads.pipeline.inputs import DataSet, chosen, open_dataset, picture_folders
from locheads.pipeline.predictions import OWN, writing
from locheads.pipeline.progress import track
from locheads.pipeline.records import Status, metrics_record, recorded_provenance, write_parquet
from locheads.report.html import write_report
from locheads.store.atomic import write_json
from locheads.store.digest import json_digest
from locheads.types import ImageGroup

log = logging.getLogger(__name__)


def run_external(config: Config, folder: Path) -> None:
    """Scores the file and writes predictions.parquet, scores.parquet, samples.json, metrics.json and report.html.

    Raises:
        LocHeadsError: whatever a user can mend, as one sentence.
    """
    status = Status(folder)
    try:
        check(config)
        with recorded_provenance(folder) as record, status.stage(Stage.evaluate.value):
            path, data = _file(config), open_dataset(config.dataset, config.paths)
            split = data.read(config.dataset.split)
            folders = picture_folders(config.dataset, config.paths)
            data.notes = [*data.notes, *check_headers(chosen(split, config), folders)]
            record |= _identity(config, path, data)
            _score(config, folder, path, split, data)
        status.finish()
        write_report(folder)
    except BaseException as error:
        status.finish(str(error) or type(error).__name__)
        raise


def _file(config: Config) -> Path:
    path = Path(config.predictions or "")
    if not path.is_file():
        raise DataError(f"predictions={path} is no file: give a JSONL or CSV file of boxes or masks.")
    return path


def _identity(config: Config, path: Path, data: DataSet) -> dict[str, Any]:
    """What provenance.json says of the data and the file; the digest is equal where the figures must be."""
    form = {key: getattr(value, "value", value) for key, value in vars(config.predictions_format).items()}
    predictions = {"file": str(path), "sha256": sha256_of([path]), "format": form}
    dataset = {"name": config.dataset.name, "annotations_sha256": data.digest, "notes": list(data.notes)}
    dataset |= {key: getattr(config.dataset, key) for key in ("split", "limit", "offset", "shuffle")}
    # Whatever may change what is read of the files, less where they lie.
    read = {key: value for key, value in dataclasses.asdict(config.dataset).items() if key not in WHERE_IT_LIES}
    settings = [predictions["sha256"], form, dataset, read, dataclasses.asdict(config.evaluation), config.seed]
    return {
        "digest": json_digest(settings),
        "predictions": predictions,
        "dataset": dataset,
        "seeds": {"seed": config.seed},
    }


def _score(config: Config, folder: Path, path: Path, split: list[ImageGroup], data: DataSet) -> None:
    evaluated = chosen(split, config)
    ids = [sample.sample_id for group in evaluated for sample in group.samples]
    write_json(folder / "samples.json", {"split": config.dataset.split, "evaluated": ids, "notes": list(data.notes)})
    sizes = {sample.sample_id: (group.width, group.height) for group in split for sample in group.samples}
    what = f"the split {config.dataset.split} of {config.dataset.name}"
    answers = _Watched(read_predictions(path, config.predictions_format, sizes, what), sizes, _lines(path))
    absent = f"{path.name} has no prediction for it"
    parts = []
    with writing(folder / OWN) as write:
        for rows, scored in score_answers(answers, evaluated, absent):
            write(rows)
            parts.append(scored)
    scores = pd.concat(parts, ignore_index=True)
    write_parquet(folder / "scores.parquet", scores)
    n_missing = int((scores["error"] == absent).sum())
    n_other = answers.count - (len(scores) - n_missing)
    for note in (notes := answers.notes(config)):
        log.warning("%s", note)
    if n_missing or n_other:
        log.warning("%s lacks %d samples (misses), and has %d that are not evaluated.", path, n_missing, n_other)
    metrics = metrics_record(
        scores,
        config,
        PREDICTIONS,
        n_missing=n_missing,
        n_not_evaluated=n_other,
        notes=notes,
    )
    write_json(folder / "metrics.json", metrics)


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(bool(line.strip()) for line in stream) - (path.suffix == ".csv")


class _Watched:
    """The answers, looked at on their way: does the stated format fit them?"""

    def __init__(self, answers: Iterator[Answer], sizes: dict[str, tuple[int, int]], lines: int) -> None:
        self._answers, self._sizes, self._lines = answers, sizes, lines
        self.count = self.boxes = self.outside = self.specks = 0

    def __iter__(self) -> Iterator[Answer]:
        for answer in track(self._answers, "evaluate", "predictions", self._lines):
            self.count += 1
            if answer.box is not None:
                width, height = self._sizes[answer.sample_id]
                x0, y0, x1, y1 = answer.box
                self.boxes += 1
                self.outside += x1 > 1.5 * width or y1 > 1.5 * height
                self.specks += x1 - x0 < 0.005 * width and y1 - y0 < 0.005 * height
            yield answer

    def notes(self, config: Config) -> list[str]:
        """What a wrong format would look like."""
        form = config.predictions_format.box_format
        kinds = {
            "leave their picture by half of it": self.outside,
            "are smaller than 1/200 of their picture": self.specks,
        }
        return [
            f"{count:,} of {self.boxes:,} boxes {kind}: is predictions_format={form} how they are written?"
            for kind, count in kinds.items()
            if count > self.boxes / 2
        ]
