"""A family and a reader of a user's own, as they would lie beside the user's work: nothing of the package is edited."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

from pycocotools import mask as coco

from locheads.data.config import DatasetConfig
from locheads.data.own_reader import DataSetReader
from locheads.data.tally import Tally
from locheads.models.adapters import FAMILIES
from locheads.types import ImageGroup, Sample

LlavaAdapter = FAMILIES["locheads_llava"]


class LoudAdapter(LlavaAdapter):
    """LLaVA's, which writes an article before every expression: its maps must not be those of LLaVA."""

    def prepare(self, image, expressions, prompt):
        return super().prepare(image, [f"the {text}" for text in expressions], prompt)


class TableReader(DataSetReader):
    """SPLIT.json in dataset.folder: {image: {"size": [width, height], "expressions": [[id, text, box], ...]}}. The box
    is the mask."""

    def __init__(self, config: DatasetConfig, cache: Path) -> None:
        self._folder, self._images = Path(config.folder), Path(config.images)

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        table = json.loads((self._folder / f"{split}.json").read_text())
        return [self._group(image, rows) for image, rows in table.items()]

    def splits(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.json"))

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(self._folder.glob("*.json")))).hexdigest()

    def _group(self, image: str, content: dict) -> ImageGroup:
        width, height = content["size"]
        samples = [
            Sample(key, key, text, tuple(box), _mask(box, width, height), "thing")
            for key, text, box in content["expressions"]
        ]
        return ImageGroup(image, self._images / image, width, height, tuple(samples))


def _mask(box: list[float], width: int, height: int) -> dict:
    x0, y0, x1, y1 = box
    (code,) = coco.frPyObjects([[x0, y0, x1, y0, x1, y1, x0, y1]], height, width)
    return {"size": [height, width], "counts": code["counts"].decode()}


class Half(DataSetReader):
    """Without most of what a reader needs."""

    def splits(self) -> list[str]:
        return []


class Twice(TableReader):
    """Every sample has the same id."""

    def _group(self, image: str, content: dict) -> ImageGroup:
        return super()._group(image, content | {"expressions": [["1", *e[1:]] for e in content["expressions"]]})


class Elsewhere(TableReader):
    """Boxes as corner and size, where two corners are meant: they leave the image."""

    def _group(self, image: str, content: dict) -> ImageGroup:
        wide = [[key, text, [b[0], b[1], b[2] + content["size"][0], b[3]]] for key, text, b in content["expressions"]]
        return super()._group(image, content | {"expressions": wide})


class Broken(TableReader):
    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        raise KeyError("split")


a_number = 7
