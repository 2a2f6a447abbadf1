"""The review of RefCOCO, RefCOCO+ and RefCOCOg that came with Ref-L4: which expressions, or their boxes, are wrong.

The files `refcocos_annotation_reviewed/refcoco_val_reviewed.json` and alike of JierunChen/Ref-L4 on the hub (CC BY-NC
4.0; arXiv 2406.16866). `images` hold an expression each: {"id", "original_id": COCO's image, "caption"}; `annotations`
its flag: {"image_id": the former id, "original_id": COCO's annotation, "caption_quality": 0 where it is faulty}.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from glob import escape, glob
from pathlib import Path

from locheads.data.annotation_files import field, index_by_id, mapping, read_json, short
from locheads.data.config import DatasetConfig
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import ImageGroup

PUBLISHED = {"refcoco/unc": (18_532, 3_054), "refcoco+/unc": (16_172, 5_201), "refcocog/umd": (13_823, 675)}
"""Data set -> (clean, faulty) expressions of its reviewed splits together."""
_ADVICE = "take both files from the same release, or set dataset.review='' to do without the review"


class Review:
    """The flags of one split, for the reader that goes through its sentences in the order of the refs file."""

    def __init__(self, path: Path) -> None:
        """Raises DataError, naming the file and the record, where it cannot be read."""
        self._path = path
        self._flags: dict[tuple[int, int], deque[tuple[str, bool]]] = defaultdict(deque)
        content = mapping(read_json(path), str(path))
        captions = index_by_id(field(content, "images", list, str(path)), None, "image", path)
        for number, record in enumerate(field(content, "annotations", list, str(path))):
            where = f"annotation number {number} of {path}"
            key = field(record, "image_id", int, where)
            if key not in captions:
                raise DataError(f"{where} is about image {key}, which is not there: download the file again.")
            named = f"image {key} of {path}"
            pair = field(captions[key], "original_id", int, named), field(record, "original_id", int, where)
            faulty = field(record, "caption_quality", int, where) == 0
            self._flags[pair].append((field(captions[key], "caption", str, named), faulty))

    def faulty(self, image: int, annotation: int, sentence: str, where: str, tally: Tally) -> bool | None:
        """The flag of the next sentence about the annotation (both ids COCO's). Raises DataError where the review has
        another caption there, or none; counted (None then) by a tally that counts."""
        flags = self._flags[image, annotation]
        caption, faulty = flags.popleft() if flags else (None, None)
        if caption == sentence:
            return faulty
        found = "nothing" if caption is None else short(caption)
        problem = f"{where} says {short(sentence)}, but {self._path} has {found} there: {_ADVICE}."
        tally.reject(DataError(problem))
        return None

    def end(self, tally: Tally) -> None:
        """Raises DataError (or counts it) for every flag that no sentence took."""
        for (image, annotation), flags in self._flags.items():
            for caption, _ in flags:
                left = f"{short(caption)} of annotation {annotation} in image {image}"
                tally.reject(DataError(f"{self._path} reviews {left}, which the refs do not hold: {_ADVICE}."))


def review_file(config: DatasetConfig, split: str) -> Path | None:
    """The file with the flags of the split, if there is one."""
    path = Path(config.review.replace("{split}", split))
    return path if config.review and path.is_file() else None


def review_files(config: DatasetConfig) -> list[Path]:
    """Those of all splits that are there."""
    return sorted(map(Path, glob("*".join(map(escape, config.review.split("{split}"))))))


def flags_of(groups: Iterable[ImageGroup]) -> list[bool | None]:
    """Of every expression in order: what a review adds to the digest of a result. Nothing where none was reviewed."""
    flags = [sample.faulty for group in groups for sample in group.samples]
    return flags if {*flags} - {None} else []
