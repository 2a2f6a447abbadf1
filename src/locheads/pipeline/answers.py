"""What the LVLM says to each expression in its own words: read by stage=direct, and by queries in the answer."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from locheads.config import Config
from locheads.data.box_text import frame_in, number_places, read_answer
from locheads.errors import DataError
from locheads.geometry import Geometry
from locheads.models.answer_tokens import no_box_format, query_token, wanted_tokens
from locheads.models.engine import OtherVersions
from locheads.pipeline.open_store import NO_PART, NUMBERS
from locheads.store.answer_store import AnswerStore, StoredAnswer
from locheads.store.atomic import check_writable, write_json
from locheads.store.attention_store import AttentionStore
from locheads.store.key import Key, code_digest, difference, lacks_some, of_other_versions
from locheads.types import Answer, Box, ImageGroup

log = logging.getLogger(__name__)

FORMAT = 3
"""Raise it when the way of asking changes, so that old answers are not taken for new ones."""
KEY = ".key.json"
"""Beside the answers: what they were made from."""
COLUMNS = (
    pa.field("answer", pa.string()),
    *(pa.field(f"answer_{name}", pa.float64()) for name in ("x0", "y0", "x1", "y1")),
)
"""Of predictions.parquet, beside the heads' box: what the model itself says, and its box in pixels of the image."""
OF_ROWS = ("query", "max_new_tokens")
"""Settings of the prompt that say which rows are taken, and how long an answer may get."""


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
    """`store`: of the same question to the same model; the answers' key holds its key, but for the rows that are taken:
    the answers are the same whichever these are."""
    asked = {name: value for name, value in store.current_key.question.items() if name != NUMBERS}
    prompt = {name: value for name, value in asked["prompt"].items() if name not in OF_ROWS}
    question = {**asked, "format": FORMAT, "prompt": prompt, "max_new_tokens": config.prompt.max_new_tokens}
    code = code_digest("locheads.models.answer", without=NO_PART)
    current = Key(question, {**(store.current_key.made_with or {}), "answers": code})
    folder = Path(config.paths.cache) / "answers"
    others = of_other_versions(current, folder.glob(f"*{KEY}"))
    take = config.engine.other_versions == OtherVersions.take and not (folder / f"{current.digest[:16]}{KEY}").exists()
    return AnswerKeys(current, others[0][1] if take and others else current, others)


class Answers:
    """Of one model to one prompt. What is there is never asked again."""

    def __init__(self, config: Config, store: AttentionStore) -> None:
        self._config, self._store, self._keys = config, store, answer_keys(config, store)
        self._answers = AnswerStore(Path(config.paths.cache), self._keys.key.digest)
        self._writable = False

    @property
    def path(self) -> Path:
        """The file."""
        return self._answers.path

    def get(self, group: ImageGroup, sample_id: str) -> StoredAnswer | None:
        """What the model says about the image as it is; None where it was not asked."""
        return self._answers.get(sample_id, self._store.image(group))

    def add(self, group: ImageGroup, answers: Sequence[tuple[str, Answer]], geometry: Geometry) -> None:
        """`answers`: (sample id, answer)."""
        image = self._store.image(group)
        self._answers.add(StoredAnswer(sample_id, image, answer, geometry) for sample_id, answer in answers)

    def changed(self, groups: Iterable[ImageGroup]) -> list[Path]:
        """Images that were asked about when they were others."""
        known = self._answers.sample_ids()
        return [
            group.path
            for group in groups
            if any(s.sample_id in known and self.get(group, s.sample_id) is None for s in group.samples)
        ]

    def wanted(self, answer: Answer, image_token: int = -1) -> tuple[int, ...]:
        """The tokens that prompt.query asks for. Raises DataError as `wanted_tokens`."""
        return wanted_tokens(answer, self._config.prompt.query, image_token, self._number_places)

    def _number_places(self, text: str) -> list[tuple[int, int]] | None:
        form = self._config.direct.box_format
        return no_box_format(text) if form is None else number_places(text, form)

    def query_tokens(self, groups: Iterable[ImageGroup]) -> dict[str, str]:
        """Sample id -> the token from whose row its attention was taken, "" for the prompt's last."""
        found = {}
        for group in groups:
            for sample in group.samples:
                if (said := self.get(group, sample.sample_id)) is not None:
                    with suppress(DataError):
                        found[sample.sample_id] = query_token(said.answer, self.wanted(said.answer))
        return found

    def beside(self, table: pa.Table, groups: Iterable[ImageGroup]) -> pa.Table:
        """Rows of a file of predictions with `COLUMNS`; the box where direct.box_format says how boxes are written."""
        image = {sample.sample_id: group for group in groups for sample in group.samples}
        rows = [self._row(image[sample_id], sample_id) for sample_id in table["sample_id"].to_pylist()]
        for i, column in enumerate(COLUMNS):
            table = table.append_column(column, pa.array([row[i] for row in rows], column.type))
        return table

    def _row(self, group: ImageGroup, sample_id: str) -> tuple[str | float | None, ...]:
        said, direct = self.get(group, sample_id), self._config.direct
        box: Box | None = None
        if said is not None and direct.box_format is not None:
            frame = frame_in(said.geometry, direct.frame, direct.cell_pixels)
            box = read_answer(said.answer.text, direct.box_format, frame, group.width, group.height).box
        return (said and said.answer.text.strip(), *(box or (None,) * 4))

    def check_writable(self) -> None:
        """Before the model loads. Raises StoreError where no answer could be kept, or none must be."""
        if self._writable:
            return
        path, keys = self.path, self._keys
        if keys.key != keys.current_key:
            raise lacks_some(path, keys.key, keys.current_key)
        for file, key in keys.others:
            log.warning("%s is of answers that were made with other versions: %s. What is asked now goes to a store of "
                        "its own; engine.other_versions=take reads the others as they are.",
                        file, difference(key.made_with, keys.current_key.made_with))  # fmt: skip
        check_writable(path.parent)
        write_json(path.with_suffix(KEY), keys.current_key.content)
        self._writable = True
