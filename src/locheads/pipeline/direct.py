"""stage=direct: the LVLM is asked for the box, and its answer is scored as the heads are (the paper's Table 6)."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from locheads.config import Config
from locheads.data.box_text import WrittenBox, frame_in, read_answer
from locheads.data.image_files import open_image
from locheads.data.image_groups import subset
from locheads.errors import DataError
from locheads.evaluation.box_format_check import BoxFormatMonitor
from locheads.evaluation.metric_table import DIRECT_OUTPUT
from locheads.evaluation.predict import direct_row
from locheads.evaluation.truth import Truth
from locheads.models.answer import answer_image, prepare_to_answer
from locheads.models.attend import NO_MEMORY
from locheads.models.batching import free_memory, is_out_of_memory
from locheads.models.engine import OtherVersions
from locheads.models.load import Lvlm
from locheads.pipeline.attention_pass import images_differ
from locheads.pipeline.loader import Loader
from locheads.pipeline.open_store import NO_PART
from locheads.pipeline.run_files import OWN, box_format_record, metrics_record, scored, table_of, write_parquet, writing
from locheads.pipeline.setup import Failures, Setup
from locheads.pipeline.timing import Stopwatch, write_timing
from locheads.store.answer_store import AnswerStore, StoredAnswer
from locheads.store.atomic import check_writable, write_json
from locheads.store.attention_store import AttentionStore
from locheads.store.key import Key, code_digest, difference, lacks_some, of_other_versions
from locheads.terminal import track
from locheads.types import ImageGroup

log = logging.getLogger(__name__)

FORMAT = 2
"""Raise it when the way of asking changes, so that old answers are not taken for new ones."""
KEY = ".key.json"
"""Beside the answers: what they were made from."""


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
                    written = read_answer(answer.text, direct.box_format, frame, group.width, group.height)
                    monitor.add(written, group, sample, frame)
                rows.append(direct_row(group, sample, written.box, source.failures.get(sample.sample_id)))
                text = answer and answer.text
                parsed = {"parsed": written.box is not None, "fault": written.fault}
                answers.append({"sample_id": sample.sample_id, "answer": text} | parsed)
            write(table_of(rows))
    source.finish()
    write_parquet(run.folder / "answers.parquet", pd.DataFrame(answers))
    _write_scores(run, monitor)
    return source.failures


@dataclass(frozen=True)
class AnswerKeys:
    """Which answers a run reads."""

    current_key: Key
    """What would be answered now."""
    key: Key
    """What is read: that, or with engine.other_versions=take the answers of other versions."""
    others: list[tuple[Path, Key]]
    """Files of keys of answers to the same question of other versions."""


def answer_keys(config: Config, store: AttentionStore) -> AnswerKeys:
    """`store`: of the same question to the same model; the answers' key holds its key."""
    question = {"format": FORMAT, **store.current_key.question, "max_new_tokens": config.direct.max_new_tokens}
    code = code_digest("locheads.models.answer", without=NO_PART)
    current = Key(question, {**(store.current_key.made_with or {}), "answers": code})
    folder = Path(config.paths.cache) / "answers"
    others = of_other_versions(current, folder.glob(f"*{KEY}"))
    take = config.engine.other_versions == OtherVersions.take and not (folder / f"{current.digest[:16]}{KEY}").exists()
    return AnswerKeys(current, others[0][1] if take and others else current, others)


class _AnswerSource:
    """Asks what the store has no answer to; loads the LVLM only then."""

    def __init__(self, run: Setup) -> None:
        self._run = run
        self._lvlm: Lvlm | None = None
        self._keys = answer_keys(run.config, run.store)
        self._answers = AnswerStore(Path(run.config.paths.cache), self._keys.key.digest)
        self._watch: Stopwatch | None = None
        self._n_asked = 0
        self.failures: dict[str, str] = {}
        """Sample id -> why it could not be asked."""
        self._warn_of_other_versions()

    def answer(self, group: ImageGroup, sample_id: str) -> StoredAnswer | None:
        return self._answers.get(sample_id, self._run.store.image(group))

    def fill(self, group: ImageGroup) -> None:
        """Asks all that is not answered about an image; why something cannot be asked goes to `failures`."""
        missing = [s.sample_id for s in group.samples if self.answer(group, s.sample_id) is None]
        if not missing:
            return
        self._check_store()
        self._load()  # whose errors are not a sample's
        if self._tried(group, missing) is None:
            return
        # One expression that cannot be asked must not take the image's others with it.
        for sample_id in missing:
            if (reason := self._tried(group, [sample_id])) is not None:
                log.warning("Sample %s failed: %s", sample_id, reason)
                self.failures[sample_id] = reason

    def _tried(self, group: ImageGroup, sample_ids: list[str]) -> str | None:
        """Asks. -> why that cannot be done; None where it was."""
        try:
            self._ask(group, sample_ids)
        except DataError as error:
            return str(error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return None
        # Outside of the handler: the error's traceback kept the failed pass's tensors alive.
        free_memory()
        return NO_MEMORY

    def _ask(self, group: ImageGroup, sample_ids: list[str]) -> None:
        (unanswered,) = subset([group], sample_ids)
        image, config = open_image(unanswered), self._run.config
        expressions = [sample.expression for sample in unanswered.samples]
        texts, geometry = answer_image(self._load(), image, expressions, config.prompt, config.direct.max_new_tokens)
        digest = self._run.store.image(group)
        self._answers.add(
            StoredAnswer(s.sample_id, digest, text, geometry) for s, text in zip(unanswered.samples, texts, strict=True)
        )
        self._n_asked += len(texts)

    def finish(self) -> None:
        """timing.json."""
        passes = self._answers.path.with_suffix("")
        if self._watch is not None:
            self._watch.stop(passes, self._n_asked, of="answers")
        write_timing(self._run.folder, passes)

    def _warn_of_other_versions(self) -> None:
        answered = self._answers.sample_ids()
        changed = [
            group.path
            for group in self._run.inputs.evaluated
            if any(s.sample_id in answered and self.answer(group, s.sample_id) is None for s in group.samples)
        ]
        if changed:
            log.warning("%s from those that were asked about: they are asked about again.", images_differ(changed))

    def _check_store(self) -> None:
        """Before the model loads. Raises StoreError where no answer could be kept, or none must be."""
        if self._lvlm is not None:
            return
        path, keys = self._answers.path, self._keys
        if keys.key != keys.current_key:
            raise lacks_some(path, keys.key, keys.current_key)
        for file, key in keys.others:
            log.warning("%s is of answers that were made with other versions: %s. What is asked now goes to a store of "
                        "its own; engine.other_versions=take reads the others as they are.",
                        file, difference(key.made_with, keys.current_key.made_with))  # fmt: skip
        check_writable(path.parent)
        write_json(path.with_suffix(KEY), keys.current_key.content)

    def _load(self) -> Lvlm:
        if self._lvlm is None:
            self._lvlm = Loader(self._run.config).get(None)
            prepare_to_answer(self._lvlm)
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
