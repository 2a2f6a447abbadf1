"""gRefCOCO (GRES, CVPR 2023): as REFER's files, but a ref may be about several annotations of its image, or none.

`grefs(unc).json` and `instances.json`: "ann_id" and "category_id" are lists, [-1] where "no_target" is true. Layout
after the publishers' reader, https://github.com/henghuiding/gRefCOCO (`grefer.py`). The pocket data with several
objects has the same form.
"""

from pathlib import Path
from typing import Any

from locheads.data.annotation_files import ADVICE, field, short
from locheads.data.config import DatasetConfig
from locheads.data.masks import around, empty_code, union
from locheads.data.refer import Instances, NamedObject, ReferDataSet
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError

NO_TARGET = -1
"""Stands for the annotation that there is none of."""


class GrefDataSet(ReferDataSet):
    """A folder with gRefCOCO's files."""

    layout = "a data set of gRefCOCO's form is a folder (such as grefcoco) that holds {} and {}"

    def __init__(self, config: DatasetConfig, cache: Path) -> None:
        super().__init__(config, cache)
        if config.review:
            raise ConfigError("dataset.review is of expressions that name one object: set dataset.review=''.")

    def _annotation_ids(self, ref: dict, where: str) -> list[int]:
        return [each for each in field(ref, "ann_id", list, where) if type(each) is int]

    def _about(
        self, ref: dict, where: str, size: tuple[int, int], instances: Instances, tally: Tally
    ) -> dict[str, Any]:
        ids = _targets(ref, where)
        named = [self._object(each, ref, where, size, instances, tally) for each in ids]
        boxes = tuple(each.box for each in named)
        return {
            "box": around(boxes),
            "mask": union([each.mask for each in named]) if named else empty_code(*size),
            "category": ", ".join(dict.fromkeys(each.category for each in named)),
            "distractors": _others(named, ref["image_id"], instances),
            "boxes": boxes,
        }


def _targets(ref: dict, where: str) -> list[int]:
    """Ids of the annotations that the ref is about, each once, in the file's order; none where it has no target."""
    ids, absent = field(ref, "ann_id", list, where), ref.get("no_target")
    if not ids or not all(type(each) is int for each in ids):
        raise DataError(f"{where} has 'ann_id' {short(ids)}, but a list of whole numbers is needed: {ADVICE}.")
    none = ids == [NO_TARGET]
    if (NO_TARGET in ids) != none or absent not in (None, none):
        told = f"'ann_id' {short(ids)} and 'no_target' {short(absent)}"
        raise DataError(f"{where} has {told}, which contradict each other: {ADVICE}.")
    return [] if none else list(dict.fromkeys(ids))


def _others(named: list[NamedObject], image_id: int, instances: Instances) -> int | None:
    """Objects of the named ones' categories that are not named; None where nothing is, as no category is known."""
    if not named:
        return None
    of_kind = sum(instances.same_category[image_id, category] for category in {each.category_id for each in named})
    return max(0, of_kind - len(named))
