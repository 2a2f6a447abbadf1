"""What the LVLM answered in words, so that it is never asked the same thing twice: one JSON line per expression."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from locheads.errors import StoreError
from locheads.models.geometry import Geometry


@dataclass(frozen=True)
class Answer:
    """One expression's."""

    sample_id: str
    picture: str | None
    """sha256 of the picture's file."""
    text: str
    geometry: Geometry
    """Where the picture lay in the model's input, which is what its coordinates may refer to."""


class AnswerStore:
    """Reads and appends. A line that was cut off is asked again."""

    def __init__(self, cache: Path, digest: str) -> None:
        """`digest`: of everything that determines the answers."""
        self.path = cache / "answers" / f"{digest[:16]}.jsonl"
        self._answers = {(answer.sample_id, answer.picture): answer for answer in _read(self.path)}

    def get(self, sample_id: str, picture: str | None) -> Answer | None:
        """The answer about exactly this picture."""
        return self._answers.get((sample_id, picture))

    def sample_ids(self) -> set[str]:
        """Of what is answered, about whatever picture."""
        return {sample_id for sample_id, _ in self._answers}

    def add(self, answers: Iterable[Answer]) -> None:
        """Appends and syncs. Raises StoreError where that is not possible."""
        answers = list(answers)
        # A line of its own, even after one that was cut off.
        text = "".join("\n" + json.dumps(asdict(answer)) for answer in answers)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"Cannot write {self.path}: {error.strerror or error}. Free space or choose another folder "
                "(paths.cache) and start again; what was answered before is kept."
            ) from error
        self._answers |= {(answer.sample_id, answer.picture): answer for answer in answers}


def _read(path: Path) -> list[Answer]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [answer for line in lines if (answer := _parse(line)) is not None]


def _parse(line: str) -> Answer | None:
    try:
        content: dict[str, Any] = json.loads(line)
        return Answer(**content | {"geometry": Geometry.from_dict(content["geometry"])})
    except (ValueError, KeyError, TypeError):
        return None
