"""stage=direct: the LVLM is asked for the box, and its answer is scored as the heads are (the paper's Table 6)."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from locheads.config import Config
from locheads.data.answers import parse_box
from locheads.data.pictures import open_picture
from locheads.data.sampling import subset
from locheads.errors import DataError
from locheads.evaluation.evaluate import score_predictions, summarise
from locheads.evaluation.predict import direct_row
from locheads.models.answer import answer_image, prepare_to_answer
from locheads.models.load import Lvlm
from locheads.pipeline.attention import Loader
from locheads.pipeline.progress import track
from locheads.pipeline.records import write_parquet
from locheads.pipeline.timing import Stopwatch, write_timing
from locheads.store.answers import Answer, AnswerStore
from locheads.store.atomic import write_json
from locheads.store.digest import json_digest
from locheads.types import ImageGroup

if TYPE_CHECKING:
    from locheads.pipeline.stages import Run

log = logging.getLogger(__name__)

FORMAT = 1
"""Raise it when the way of asking changes, so that old answers are not taken for new ones."""


def direct_stage(run: "Run") -> None:
    """Asks, parses, scores -> answers.parquet, predictions.parquet, scores.parquet, metrics.json, timing.json."""
    asker = _Asker(run)
    rows: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for group in track(run.inputs.evaluated, "ask", "pictures"):
        asker.ask(group)
        for sample in group.samples:
            answer = asker.answer(group, sample.sample_id)
            box = None if answer is None else _box(answer, run.config)
            rows.append(direct_row(group, sample, box, asker.failures.get(sample.sample_id)))
            answers.append({"sample_id": sample.sample_id, "answer": answer and answer.text, "parsed": box is not None})
    asker.finish()
    _write(run, pd.DataFrame(rows), pd.DataFrame(answers))


def _box(answer: Answer, config: Config) -> tuple[float, float, float, float] | None:
    direct = config.direct
    assert direct.box_format is not None
    return parse_box(answer.text, direct.box_format, direct.frame, answer.geometry, direct.cell_pixels)


class _Asker:
    """Asks what the store has no answer to; loads the LVLM only then."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._lvlm: Lvlm | None = None
        key = [FORMAT, run.store.digest, run.config.direct.max_new_tokens]
        self._answers = AnswerStore(Path(run.config.paths.cache), json_digest(key))
        self._watch: Stopwatch | None = None
        self._n_asked = 0
        self.failures: dict[str, str] = {}
        """Sample id -> why it could not be asked."""

    def answer(self, group: ImageGroup, sample_id: str) -> Answer | None:
        return self._answers.get(sample_id, self._run.store.picture(group))

    def ask(self, group: ImageGroup) -> None:
        """Asks all that is not answered about a picture; why something cannot be asked goes to `failures`."""
        missing = [s.sample_id for s in group.samples if self.answer(group, s.sample_id) is None]
        if not missing:
            return
        try:
            self._ask(group, missing)
        except DataError:
            # One expression that cannot be asked must not take the picture's others with it.
            for sample_id in missing:
                try:
                    self._ask(group, [sample_id])
                except DataError as error:
                    log.warning("Sample %s failed: %s", sample_id, error)
                    self.failures[sample_id] = str(error)

    def _ask(self, group: ImageGroup, sample_ids: list[str]) -> None:
        (asked,) = subset([group], sample_ids)
        picture, config = open_picture(asked), self._run.config
        expressions = [sample.expression for sample in asked.samples]
        texts, geometry = answer_image(self._load(), picture, expressions, config.prompt, config.direct.max_new_tokens)
        digest = self._run.store.picture(group)
        self._answers.add(
            Answer(s.sample_id, digest, text, geometry) for s, text in zip(asked.samples, texts, strict=True)
        )
        self._n_asked += len(texts)

    def finish(self) -> None:
        """timing.json."""
        passes = self._answers.path.with_suffix("")
        if self._watch is not None:
            self._watch.stop(passes, self._n_asked, of="answers")
        write_timing(self._run.folder, passes)

    def _load(self) -> Lvlm:
        if self._lvlm is None:
            self._lvlm = Loader(self._run.config).get(None)
            prepare_to_answer(self._lvlm)
            self._watch = Stopwatch(self._lvlm.device)
        return self._lvlm


def _write(run: "Run", predictions: pd.DataFrame, answers: pd.DataFrame) -> None:
    config = run.config
    scores = score_predictions(predictions, run.inputs.evaluated)
    write_parquet(run.folder / "answers.parquet", answers)
    write_parquet(run.folder / "predictions.parquet", predictions)
    write_parquet(run.folder / "scores.parquet", scores)
    n_failed = int(scores["error"].notna().sum())
    n_unparsable = int((~answers["parsed"]).sum()) - n_failed
    metrics = {
        "split": config.dataset.split,
        "n_expressions": len(scores),
        "n_images": int(scores["image_id"].nunique()),
        "n_failed": n_failed,
        "n_empty": n_unparsable,
        "confidence": config.evaluation.confidence,
        "methods": summarise(scores, config.evaluation, config.seed),
    }
    write_json(run.folder / "metrics.json", metrics)
    log.info("%d of %d answers hold no box in the stated format: they count as misses.", n_unparsable, len(scores))
