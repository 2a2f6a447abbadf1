"""stage=direct: the LVLM is asked for the box, and its answer is scored as the heads are (the paper's Table 6)."""

import logging
from typing import Any

import pandas as pd

from locheads.data.box_text import WrittenBox, frame_in, read_answer
from locheads.data.image_files import open_image
from locheads.data.image_groups import subset
from locheads.errors import DataError
from locheads.evaluation.box_format_check import BoxFormatMonitor
from locheads.evaluation.metric_table import DIRECT_OUTPUT
from locheads.evaluation.predict import direct_row
from locheads.evaluation.truth import Truth
from locheads.models.answer import answer_image, check_makes_words
from locheads.models.attend import NO_MEMORY
from locheads.models.load import Lvlm
from locheads.pipeline.answers import Answers
from locheads.pipeline.attention_pass import images_differ
from locheads.pipeline.loader import Loader
from locheads.pipeline.run_files import OWN, box_format_record, metrics_record, scored, table_of, write_parquet, writing
from locheads.pipeline.setup import Failures, Setup
from locheads.pipeline.timing import Stopwatch, write_timing
from locheads.store.answer_store import StoredAnswer
from locheads.terminal import track
from locheads.types import ImageGroup

log = logging.getLogger(__name__)


def direct_stage(run: Setup) -> Failures:
    """Asks, parses, scores -> answers.parquet, predictions.parquet, scores.parquet, metrics.json, timing.json."""
    source = _AnswerSource(run)
    answers: list[dict[str, Any]] = []
    direct = run.config.direct
    assert direct.box_format is not None  # `config.check` has refused that
    monitor = BoxFormatMonitor(direct.box_format.box_format, direct.frame, "direct.box_format")
    with writing(run.folder / OWN) as write:
        for group in track(run.inputs.evaluated, "ask", "images"):
            source.fill(group)
            rows = []
            for sample in group.samples:
                answer = source.answer(group, sample.sample_id)
                written = WrittenBox()
                if answer is not None:
                    frame = frame_in(answer.geometry, direct.frame, direct.cell_pixels)
                    written = read_answer(answer.answer.text, direct.box_format, frame, group.width, group.height)
                    if len(sample.objects) == 1:
                        monitor.add(written, group, sample, frame)
                rows.append(direct_row(group, sample, written.box, source.failures.get(sample.sample_id)))
                text = answer and answer.answer.text.strip()
                parsed = {"parsed": written.box is not None, "fault": written.fault}
                answers.append({"sample_id": sample.sample_id, "answer": text} | parsed)
            write(table_of(rows))
    source.finish()
    write_parquet(run.folder / "answers.parquet", pd.DataFrame(answers))
    _write_scores(run, monitor)
    return source.failures


class _AnswerSource:
    """Asks what the store has no answer to; loads the LVLM only then."""

    def __init__(self, run: Setup) -> None:
        self._run = run
        self._lvlm: Lvlm | None = None
        self._answers = Answers(run.config, run.store)
        self._watch: Stopwatch | None = None
        self._n_asked = 0
        self.failures: dict[str, str] = {}
        """Sample id -> why it could not be asked."""
        if changed := self._answers.changed(run.inputs.evaluated):
            log.warning("%s from those that were asked about: they are asked about again.", images_differ(changed))

    def answer(self, group: ImageGroup, sample_id: str) -> StoredAnswer | None:
        return self._answers.get(group, sample_id)

    def fill(self, group: ImageGroup) -> None:
        """Asks all that is not answered about an image; why something cannot be asked goes to `failures`."""
        missing = [s.sample_id for s in group.samples if self.answer(group, s.sample_id) is None]
        if not missing:
            return
        self._answers.check_writable()
        self._load()  # whose errors are not a sample's
        try:
            self._ask(group, missing)
        except DataError:
            # One expression that cannot be asked must not take the image's others with it.
            for sample_id in missing:
                try:
                    self._ask(group, [sample_id])
                except DataError as error:
                    self._fail(sample_id, str(error))

    def _ask(self, group: ImageGroup, sample_ids: list[str]) -> None:
        (unanswered,) = subset([group], sample_ids)
        expressions = [sample.expression for sample in unanswered.samples]
        found, geometry = answer_image(self._load(), open_image(unanswered), expressions, self._run.config.prompt)
        ids = [sample.sample_id for sample in unanswered.samples]
        said = [(sample_id, answer) for sample_id, answer in zip(ids, found, strict=True) if answer is not None]
        self._answers.add(group, said, geometry)
        self._n_asked += len(said)
        for sample_id in set(ids) - dict(said).keys():
            self._fail(sample_id, NO_MEMORY)

    def _fail(self, sample_id: str, reason: str) -> None:
        log.warning("Sample %s failed: %s", sample_id, reason)
        self.failures[sample_id] = reason

    def finish(self) -> None:
        """timing.json."""
        passes = self._answers.path.with_suffix("")
        if self._watch is not None:
            self._watch.stop(passes, self._n_asked, of="answers")
        write_timing(self._run.folder, passes)

    def _load(self) -> Lvlm:
        if self._lvlm is None:
            self._lvlm = Loader(self._run.config).get(None)
            check_makes_words(self._lvlm)
            self._watch = Stopwatch(self._lvlm.device)
        return self._lvlm


def _write_scores(run: Setup, monitor: BoxFormatMonitor) -> None:
    scores = scored(run.folder / OWN, Truth(run.inputs.evaluated))
    write_parquet(run.folder / "scores.parquet", scores)
    metrics = metrics_record(scores, run.config, DIRECT_OUTPUT, **box_format_record(monitor))
    metrics.write(run.folder)
    without = metrics.boxes.without if metrics.boxes else {}
    reasons = "".join(f"; {count} {reason}" for reason, count in without.items())
    log.info("%d of %d answers have no box (misses)%s.", metrics.n_empty, len(scores), reasons)
