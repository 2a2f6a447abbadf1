"""Your own data: a COCO json and a file of expressions about its annotations.

The expressions are a JSON list, or JSON lines, of `{"annotation_id": 7, "expression": "the left cup"}`, with a
`split` (else every record belongs to every split asked for) and a whole-number `id` where you have them (in all
records or in none: the others are numbered by their place in the file).
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from locheads.data.annotation_files import field, read_json, read_lines, require, sha256_of, whole_ids
from locheads.data.image_groups import boxes_only
from locheads.data.pathnames import image_id_of
from locheads.data.refer import join_refs, read_instances
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import ImageGroup


class CocoDataSet:
    """A COCO json (`instances`) and expressions (`refs`) in one folder."""

    def __init__(self, folder: Path, instances: str, refs: str, images: Path, of_coco: bool = False) -> None:
        """`of_coco`: see `image_id_of`."""
        self._paths, self._images, self._of_coco = (folder / refs, folder / instances), images, of_coco
        self.notes: list[str] = []

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The expressions of one split, as `locheads.data.refer.read_refer`, with the same errors."""
        tally = tally or Tally()
        records, images = self._records(tally), self._image_of_annotation()
        refs = [tally.attempt(self._ref, number, record, split, images) for number, record in records]
        read = [ref for ref in refs if ref is not None]
        groups = join_refs(read, split, self._paths, self._images, tally, boxes_stand=True)
        self.notes = boxes_only(tally) or self.notes
        return self._named(groups, tally)

    def _named(self, groups: list[ImageGroup], tally: Tally) -> list[ImageGroup]:
        """The images known by their names: the ids of your file may be COCO's ids of other images."""
        found: dict[str, ImageGroup] = {}
        for group in groups:
            inner = str(group.path.relative_to(self._images))
            name = image_id_of(inner, self._of_coco)
            if name in found:
                both = f"{found[name].path} and {group.path}"
                problem = f"{self._paths[1]} has two images of the name {name}, {both}: keep one, or rename one."
                tally.reject(DataError(problem))
                continue
            found[name] = replace(group, image_id=name)
        return list(found.values())

    def splits(self) -> list[str]:
        """The splits that the expressions name; none where they name none."""
        return sorted({str(r["split"]) for _, r in self._records(Tally(counting=True)) if "split" in r})

    @cached_property
    def digest(self) -> str:
        """SHA-256 over both files."""
        return sha256_of(self._present())

    def _present(self) -> tuple[Path, Path]:
        for path in self._paths:
            require(path, f"a COCO data set of your own is a folder with {self._paths[1].name} (COCO json) and "
                    f"{self._paths[0].name} (annotation_id, expression)")  # fmt: skip
        return self._paths

    def _records(self, tally: Tally) -> list[tuple[int, dict]]:
        """(number of the line or record, record)."""
        path, _ = self._present()
        if path.suffix == ".jsonl":
            return [(int(where.rpartition(" ")[2]), record) for where, record in read_lines(path, tally)]
        content = read_json(path)
        if not isinstance(content, list):
            raise DataError(f"{path} is not a JSON list of expressions: see docs/data.md for its form.")
        checked = [(n, tally.attempt(_mapping, record, f"{path}, record {n}")) for n, record in enumerate(content)]
        return [(n, record) for n, record in checked if record is not None]

    def _image_of_annotation(self) -> dict[int, object]:
        annotations = field(read_instances(self._paths[1]), "annotations", list, str(self._paths[1]))
        pairs = ((a.get("id"), a.get("image_id")) for a in annotations if isinstance(a, dict))
        return {key: image for key, image in pairs if type(key) is int}

    def _ref(self, number: int, record: dict, split: str, images: dict[int, object]) -> dict:
        """The record in REFER's form."""
        where = f"{self._paths[0]}, record {number}"
        whole_ids([record], "annotation_id", "id")
        key = field(record, "annotation_id", int, where)
        if key not in images:
            raise DataError(f"{where} names annotation {key}, which {self._paths[1]} does not hold: correct either.")
        text = field(record, "expression", str, where)
        own_id = field(record, "id", int, where) if "id" in record else number
        in_split = field(record, "split", str, where) if "split" in record else split
        sentences = [{"sent_id": own_id, "sent": text}]
        return {"ref_id": key, "ann_id": key, "image_id": images[key], "split": in_split, "sentences": sentences}


def _mapping(record: object, where: str) -> dict:
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a mapping but {type(record).__name__}: see docs/data.md for its form.")
    return record
