"""What the LVLM answered in words, so that it is never asked the same thing twice: one JSON line per expression, each
with its checksum."""

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from locheads.errors import StoreError
from locheads.geometry import Geometry
from locheads.store.atomic import write_bytes
from locheads.store.derived import checked, json_with_checksum, parse_json
from locheads.types import Answer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredAnswer:
    """One expression's."""

    sample_id: str
    image: str | None
    """sha256 of the image's file."""
    answer: Answer
    geometry: Geometry
    """Where the image lay in the model's input, which is what its coordinates may refer to."""


class AnswerStore:
    """Reads and appends. What a damaged line answered, or one that was cut off, is asked again."""

    def __init__(self, cache: Path, digest: str) -> None:
        """`digest`: of everything that determines the answers."""
        self.path = cache / "answers" / f"{digest[:16]}.jsonl"
        lines = _lines(self.path)
        answers = [answer for line in lines if (answer := _parse(line)) is not None]
        self._answers = {(answer.sample_id, answer.image): answer for answer in answers}
        self._n_damaged = len(lines) - len(answers)
        if self._n_damaged:
            log.warning("%d lines of %s are damaged or cut off and are asked again.", self._n_damaged, self.path)

    def get(self, sample_id: str, image: str | None) -> StoredAnswer | None:
        """The answer about exactly this image."""
        return self._answers.get((sample_id, image))

    def sample_ids(self) -> set[str]:
        """Of what is answered, about whatever image."""
        return {sample_id for sample_id, _ in self._answers}

    def add(self, answers: Iterable[StoredAnswer]) -> None:
        """Appends and syncs. Raises StoreError where that is not possible."""
        answers = list(answers)
        if self._n_damaged:
            write_bytes(self.path, _text(self._answers.values()))
            self._n_damaged = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(_text(answers))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"Cannot write {self.path}: {error.strerror or error}. Free space or choose another folder "
                "(paths.cache) and start again; what was answered before is kept."
            ) from error
        self._answers |= {(answer.sample_id, answer.image): answer for answer in answers}


def _text(answers: Iterable[StoredAnswer]) -> bytes:
    """Each on a line of its own, even after one that was cut off."""
    return b"".join(b"\n" + json_with_checksum(asdict(answer)) for answer in answers)


def _lines(path: Path) -> list[bytes]:
    """Those that are not empty. Raises StoreError where there is a file that cannot be read."""
    try:
        return [line for line in path.read_bytes().split(b"\n") if line]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror or error}): delete it, its answers are asked again."
        ) from error


def _parse(line: bytes) -> StoredAnswer | None:
    try:
        content = parse_json(checked(line))
        said, geometry = content["answer"], Geometry.from_dict(content["geometry"])
        answer = Answer(tuple(said["ids"]), tuple(said["pieces"]), said["ended"])
        return StoredAnswer(content["sample_id"], content["image"], answer, geometry)
    except (ValueError, LookupError, TypeError):
        return None
