"""The REFER annotations (RefCOCO, RefCOCO+, RefCOCOg and the pocket data) as groups per image.

A data set is a folder with `refs(SPLITTER).p` (who said what about which annotation) and `instances.json`
(COCO annotations). Layout and meaning after the publishers' reader, https://github.com/lichengunc/refer. A
ref's own `file_name` is wrong in the published files ("COCO_train2014_000000581857_16.jpg"): its `image_id`
decides.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from locheads.data import refer_files
from locheads.data.annotation_files import (
    field,
    file_sha256,
    index_by_id,
    mapping,
    no_garbage_collection,
    read_json,
    require,
    sha256_of,
    short,
    side,
    whole_ids,
    xywh_box,
)
from locheads.data.config import Asked, DatasetConfig, Expressions
from locheads.data.first_expressions import first_expressions, in_one_text
from locheads.data.image_groups import Row, group_samples
from locheads.data.masks import box_mask, is_absent, overlapping, to_rle
from locheads.data.own_reader import DataSetReader
from locheads.data.pathnames import find_image, inner_name, slug
from locheads.data.refer_files import load_refs
from locheads.data.review import Review, review_file
from locheads.data.sample_tables import kept_samples
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.store.digest import json_digest
from locheads.types import Box, ImageGroup, Sample

logger = logging.getLogger(__name__)

_KeyedRow = tuple[tuple[int, int, int], Row]
"""By image id, ref id and sentence id: the order of the output."""


class ReferDataSet(DataSetReader):
    """A REFER folder. Each split is converted to a parquet table at first use; later runs read that."""

    layout = "a REFER data set is a folder (such as refcoco) that holds {} and {}"
    boxes_stand = False
    """Whether the box of an annotation without a mask stands for it."""

    def __init__(self, config: DatasetConfig, cache: Path) -> None:
        super().__init__(config, cache)
        self._refs_path, self._instances_path = self._folder / config.refs, self._folder / config.instances

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The expressions of one split, grouped by image; ordered by image id, ref id, sentence id.

        Images are not opened, and lie under the names that instances.json gives them (COCO:
        `COCO_train2014_000000000009.jpg`). Raises DataError, naming the file and the record, where anything is absent
        or contradictory; a `tally` that counts keeps unusable refs out instead, as long as the files as a whole can be
        read, and reads the original files, because the table holds no bad record.
        """
        if tally is not None and tally.counting:
            return self._read_files(split, tally)
        name = f"{slug(self._folder.name)}-{self.digest[:16]}-v{refer_files.VERSION}"
        return in_one_text(self._kept(split, name)) if self._config.asked == Asked.in_text else self._kept(split, name)

    def _kept(self, split: str, name: str) -> list[ImageGroup]:
        """The split, and its table below the folder of this name."""
        # The flags change no attention map, so they are no part of the digest.
        reviewed = f"-{file_sha256(path)[:16]}" if (path := review_file(self._config, split)) else ""
        table = self._cache / "data" / name / f"{slug(split)}{reviewed}.parquet"
        return kept_samples(table, self._images, None, lambda tally: self._read_files(split, tally))

    def splits(self) -> list[str]:
        """The splits that the refs file knows, sorted."""
        self._check_layout()
        return self._split_names(self._refs("", Tally()))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the digests of the two annotation files, and how expressions are taken if not as usual."""
        self._check_layout()
        files = sha256_of([self._refs_path, self._instances_path])
        usual = self._config.expressions == Expressions.all
        return files if usual else json_digest([files, self._config.expressions, self._config.asked])

    def _check_layout(self) -> None:
        for path in (self._folder, self._refs_path, self._instances_path):
            require(path, self.layout.format(self._refs_path.name, self._instances_path.name))

    @no_garbage_collection()
    def _read_files(self, split: str, tally: Tally) -> list[ImageGroup]:
        self._check_layout()
        refs = self._refs(split, tally)
        if not refs and tally.rejected:
            return []
        _check_sentence_ids(refs, self._refs_path, tally)
        names = self._split_names(refs)
        if split not in names:
            known = f"choose one of {', '.join(names[:20])}" if names else "it holds no ref"
            raise DataError(f"There is no split {split!r} in {self._refs_path}: {known}.")
        of_split = [ref for ref in refs if ref["split"] == split]
        if self._config.expressions == Expressions.first:
            of_split = first_expressions(of_split)
        named = [(ref, f"ref {short(ref.get('ref_id', 'without ref_id'))} of {self._refs_path}") for ref in of_split]
        wanted = {annotation_id for ref, where in named for annotation_id in self._annotation_ids(ref, where)}
        instances = Instances(self._instances_path, named, wanted)
        path = review_file(self._config, split)
        review = Review(path) if path and self._config.expressions == Expressions.all else None
        rows = sorted(chain.from_iterable(tally.each(self._rows, named, instances, review, tally)), key=itemgetter(0))
        if review:
            review.end(tally)
        return group_samples([row for _, row in rows], f"split {split!r} of {self._refs_path}", tally)

    def _refs(self, split: str, tally: Tally) -> list:
        """The refs of all splits."""
        refs = load_refs(self._refs_path)
        whole_ids(refs, "ref_id", "ann_id", "image_id")
        for ref in refs:
            whole_ids(ref.get("sentences") if isinstance(ref, dict) else None, "sent_id")
        return refs

    def _split_names(self, refs: list) -> list[str]:
        named = ((ref, f"ref number {number} of {self._refs_path}") for number, ref in enumerate(refs))
        return sorted({field(ref, "split", str, where) for ref, where in named})

    def _annotation_ids(self, ref: dict, where: str) -> list[int]:
        """Those that the ref is about."""
        return [field(ref, "ann_id", int, where)]

    def _image_id(self, number: int, name: str) -> str:
        """What an image is known by: its number in instances.json, or its file name."""
        return str(number)

    def _rows(
        self, ref: dict, where: str, instances: "Instances", review: Review | None, tally: Tally
    ) -> list[_KeyedRow]:
        """The samples of one ref."""
        image_id, ref_id = (field(ref, key, int, where) for key in ("image_id", "ref_id"))
        image, of_image = instances.find("image", image_id, where)
        size = side(image, "width", of_image), side(image, "height", of_image)
        about = self._about(ref, where, size, instances, tally)
        name = inner_name(field(image, "file_name", str, of_image), of_image, self._images)
        of_all = self._image_id(image_id, name), find_image(self._images, name), size
        rows = []
        for sent_id, text in (_sentence(each, where) for each in field(ref, "sentences", list, where)):
            sentence = f"sentence {sent_id} of {where}"
            faulty = review.faulty(image_id, ref["ann_id"], text, sentence, tally) if review else None
            sample = Sample(str(sent_id), str(ref_id), text, faulty=faulty, **about)
            rows.append(((image_id, ref_id, sent_id), (*of_all, sample)))
        return rows

    def _about(
        self, ref: dict, where: str, size: tuple[int, int], instances: "Instances", tally: Tally
    ) -> dict[str, Any]:
        """The fields of a `Sample` that say what the ref is about: it is one annotation."""
        named = self._object(field(ref, "ann_id", int, where), ref, where, size, instances, tally)
        others = instances.same_category[ref["image_id"], named.category_id]
        # A crowd alone counts no object.
        return {"box": named.box, "mask": named.mask, "category": named.category, "distractors": max(0, others - 1)}

    def _object(
        self, annotation_id: int, ref: dict, where: str, size: tuple[int, int], instances: "Instances", tally: Tally
    ) -> "NamedObject":
        annotation, named = instances.find("annotation", annotation_id, where)
        if (other := field(annotation, "image_id", int, named)) != ref["image_id"]:
            raise DataError(
                f"{where} is about image {ref['image_id']}, but its {named} lies in image {other}: take both files "
                "from the same release."
            )
        category_id = field(annotation, "category_id", int, named)
        category, of_category = instances.find("category", category_id, named)
        box = xywh_box(annotation, named)
        mask = self._mask(annotation, box, size, named, tally)
        return NamedObject(box, mask, field(category, "name", str, of_category), category_id)

    def _mask(self, annotation: dict, box: Box, size: tuple[int, int], named: str, tally: Tally) -> dict[str, object]:
        segmentation = annotation.get("segmentation")
        if self.boxes_stand and is_absent(segmentation):
            tally.seen["no mask"] += 1
            return box_mask(box, *size, named)
        mask = to_rle(segmentation, *size, named)
        if tally.counting:
            tally.seen["crowd"] += annotation.get("iscrowd") == 1
            tally.seen["overlap"] += overlapping(segmentation, *size)
        return mask


def _check_sentence_ids(refs: list, path: Path, tally: Tally) -> None:
    """Over all splits: sentence ids name the samples, and discovery and evaluation share one store."""
    first_ref: dict[int, object] = {}
    for ref in refs:
        sentences = ref.get("sentences") if isinstance(ref, dict) else None
        # Other damage is found, and named, where the record is used.
        for sentence in sentences if isinstance(sentences, list) else ():
            sent_id = sentence.get("sent_id") if isinstance(sentence, dict) else None
            if type(sent_id) is int and sent_id in first_ref:
                numbers = f"refs {short(ref.get('ref_id'))} and {short(first_ref[sent_id])}"
                problem = f"{path} holds the sentence id {short(sent_id)} twice ({numbers}): sentence ids name the "
                tally.reject(DataError(problem + "samples, so renumber them."))
            elif type(sent_id) is int:
                first_ref[sent_id] = ref.get("ref_id")


@dataclass(frozen=True)
class NamedObject:
    """An annotation that a ref is about; the fields are those of `Sample`."""

    box: Box
    mask: dict[str, object]
    category: str
    category_id: int


class Instances:
    """The records of instances.json that some refs point to."""

    def __init__(self, path: Path, refs: list[tuple[dict, str]], annotations: set[int]) -> None:
        content, self._path = read_instances(path), path
        needed = {
            "image": ("images", {field(ref, "image_id", int, where) for ref, where in refs}),
            "annotation": ("annotations", annotations),
            "category": ("categories", None),
        }
        self._records = {
            what: index_by_id(field(content, key, list, str(path)), ids, what, path)
            for what, (key, ids) in needed.items()
        }
        self.same_category = _objects_per_category(content["annotations"], set(self._records["image"]))

    def find(self, what: str, key: int, where: str) -> tuple[dict, str]:
        """The record, and what it is called in sentences. Raises DataError for one that is not there."""
        if key not in self._records[what]:
            raise DataError(
                f"{where} names {what} {key}, which {self._path} does not hold: take both files from the same release."
            )
        return self._records[what][key], f"{what} {key} of {self._path}"


def read_instances(path: Path) -> dict:
    """A COCO json, its ids as whole numbers where they can be."""
    content = mapping(read_json(path), str(path))
    whole_ids(content.get("images"), "id", "width", "height")
    whole_ids(content.get("annotations"), "id", "image_id", "category_id")
    whole_ids(content.get("categories"), "id")
    return content


def _objects_per_category(annotations: list[dict], images: set[int]) -> Counter[tuple[int, int]]:
    """(image id, category id) -> how many annotations that are no crowds. Damaged ones are named where used."""
    pairs = ((a.get("image_id"), a.get("category_id")) for a in annotations if a.get("iscrowd") != 1)
    return Counter((i, c) for i, c in pairs if type(i) is int and type(c) is int and i in images)


def _sentence(sentence: object, where: str) -> tuple[int, str]:
    """(sentence id, expression): the cleaned text `sent`, or `raw` where that is absent or blank."""
    sent_id = field(sentence, "sent_id", int, f"a sentence of {where}")
    named = f"sentence {sent_id} of {where}"
    keys = [key for key in ("sent", "raw") if isinstance(sentence, dict) and key in sentence]
    texts = [field(sentence, key, str, named) for key in keys or ["sent"]]
    text = next((text for text in texts if text.strip()), texts[0])
    if not text.strip():
        # Kept: leaving it out would change the published counts.
        logger.warning("%s is blank.", named)
    return sent_id, text
