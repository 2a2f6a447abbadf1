"""Your own data: a COCO json and a file of expressions about its annotations.

The expressions are a JSON list, or JSON lines, of `{"annotation_id": 7, "expression": "the left cup"}`, with a
`split` (else every record belongs to every split asked for) and a whole-number `id` where you have them (in all
records or in none: the others are numbered by their place in the file).
"""

from locheads.data.annotation_files import field, mapping, read_json, read_lines, whole_ids
from locheads.data.image_groups import boxes_only
from locheads.data.pathnames import image_id_of
from locheads.data.refer import ReferDataSet, read_instances
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import ImageGroup


class CocoDataSet(ReferDataSet):
    """A COCO json (`instances`) and expressions (`refs`) in one folder: read as REFER's, but not kept as a table."""

    layout = "a COCO data set of your own is a folder with {1} (COCO json) and {0} (annotation_id, expression)"
    boxes_stand = True

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The expressions of one split, as `ReferDataSet.read`, with the same errors."""
        tally = tally or Tally()
        groups = self._read_files(split, tally)
        self.notes = boxes_only(tally) or self.notes
        return groups

    def splits(self) -> list[str]:
        """The splits that the expressions name; none where they name none."""
        self._check_layout()
        return sorted({str(r["split"]) for _, r in self._records(Tally(counting=True)) if "split" in r})

    def _image_id(self, number: int, name: str) -> str:
        """The ids of your file may be COCO's ids of other images."""
        return image_id_of(name, self._config.coco_names)

    def _records(self, tally: Tally) -> list[tuple[int, dict]]:
        """(number of the line or record, record)."""
        path = self._refs_path
        if path.suffix == ".jsonl":
            return [(int(where.rpartition(" ")[2]), record) for where, record in read_lines(path, tally)]
        content = read_json(path)
        if not isinstance(content, list):
            raise DataError(f"{path} is not a JSON list of expressions: see docs/data.md for its form.")
        return list(tally.each(lambda n, record: (n, mapping(record, f"{path}, record {n}")), enumerate(content)))

    def _refs(self, split: str, tally: Tally) -> list:
        """The records in REFER's form."""
        path = self._instances_path
        annotations = field(read_instances(path), "annotations", list, str(path))
        pairs = ((a.get("id"), a.get("image_id")) for a in annotations if isinstance(a, dict))
        images = {key: image for key, image in pairs if type(key) is int}
        return list(tally.each(self._ref, self._records(tally), split, images))

    def _ref(self, number: int, record: dict, split: str, images: dict[int, object]) -> dict:
        where = f"{self._refs_path}, record {number}"
        whole_ids([record], "annotation_id", "id")
        key = field(record, "annotation_id", int, where)
        if key not in images:
            raise DataError(
                f"{where} names annotation {key}, which {self._instances_path} does not hold: correct either."
            )
        record = {"id": number, "split": split} | record
        sentences = [{"sent_id": field(record, "id", int, where), "sent": field(record, "expression", str, where)}]
        in_split = field(record, "split", str, where)
        return {"ref_id": key, "ann_id": key, "image_id": images[key], "split": in_split, "sentences": sentences}
