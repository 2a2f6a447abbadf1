"""The REFER annotations (RefCOCO, RefCOCO+, RefCOCOg and the pocket data) as groups per image.

A data set is a folder with `refs(SPLITTER).p` (who said what about which annotation) and `instances.json`
(COCO annotations). Layout and meaning after the publishers' reader, https://github.com/lichengunc/refer. A
ref's own `file_name` is wrong in the published files ("COCO_train2014_000000581857_16.jpg"): its `image_id`
decides.
"""

import logging
from collections import Counter
from functools import cached_property
from itertools import groupby
from pathlib import Path

from locheads.data import refer_files as converted
from locheads.data.annotation_files import (
    field,
    index_by_id,
    no_garbage_collection,
    read_json,
    sha256_of,
    short,
    side,
    whole_ids,
    xywh_box,
)
from locheads.data.masks import box_mask, is_absent, overlapping, to_rle
from locheads.data.pathnames import find_image, inner_name, slug
from locheads.data.refer_files import load_plain_pickle
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.types import Box, ImageGroup, Sample

logger = logging.getLogger(__name__)

INSTANCES = "instances.json"

_Row = tuple[int, int, int, Sample]
"""(image id, ref id, sentence id, sample): sorts in the order of the output."""


class ReferDataSet:
    """A REFER folder. Each split is converted to a parquet table at first use; later runs read that."""

    def __init__(self, folder: Path, refs_name: str, images: Path, cache: Path | None = None) -> None:
        """`cache` is the folder for the tables (none are kept without it); they are named by `digest`."""
        self._folder, self._refs, self._images, self._cache = folder, refs_name, images, cache
        self.notes: list[str] = []

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """As `read_refer`. A tally that counts reads the original files, because the table holds no bad record."""
        if self._cache is None or (tally is not None and tally.counting):
            return read_refer(self._folder, self._refs, self._images, split, tally)
        name = f"{slug(self._folder.name)}-{self.digest[:16]}-v{converted.VERSION}"
        table = self._cache / "data" / name / f"{slug(split)}.parquet"
        groups = converted.read_samples(table, self._images)
        if groups is None:
            groups = read_refer(self._folder, self._refs, self._images, split, tally)
            converted.write_samples(table, groups, self._images)
        return groups

    def splits(self) -> list[str]:
        """Raises DataError as `split_names`."""
        return split_names(self._folder, self._refs)

    @cached_property
    def digest(self) -> str:
        """Raises DataError as `annotation_digest`."""
        return annotation_digest(self._folder, self._refs)


@no_garbage_collection()
def read_refer(folder: Path, refs_name: str, images: Path, split: str, tally: Tally | None = None) -> list[ImageGroup]:
    """The expressions of one split, grouped by image; ordered by image id, ref id, sentence id.

    `folder` holds `refs_name` (such as "refs(unc).p") and instances.json; `images` holds the images under
    the names that instances.json gives them (COCO: `COCO_train2014_000000000009.jpg`). Images are not
    opened. Raises DataError, naming the file and the record, where anything is absent or contradictory; a
    `tally` that counts keeps unusable refs out instead, as long as the files as a whole can be read.
    """
    refs_path, instances_path = _files(folder, refs_name)
    refs = _load_refs(refs_path)
    return join_refs(refs, split, (refs_path, instances_path), images, tally or Tally())


def join_refs(
    refs: list, split: str, paths: tuple[Path, Path], images: Path, tally: Tally, boxes_stand: bool = False
) -> list[ImageGroup]:
    """What `read_refer` does once the refs are loaded. `paths`: where refs and instances come from.

    `boxes_stand`: where an annotation has no mask, its box stands for it and is counted as "no mask".
    """
    if not refs and tally.rejected:
        return []
    _check_sentence_ids(refs, paths[0], tally)
    of_split = _refs_of_split(refs, split, paths[0])
    joiner = _Joiner(of_split, *paths, tally, boxes_stand)
    rows = sorted(
        (row for ref in of_split for row in tally.attempt(joiner.rows, ref) or ()),
        key=lambda row: row[:3],
    )
    if not rows and not tally.rejected:
        raise DataError(f"The refs of split {split!r} in {paths[0]} hold no sentence: choose another split.")
    groups = [tally.attempt(joiner.group, key, list(part), images) for key, part in groupby(rows, lambda row: row[0])]
    return [group for group in groups if group is not None]


def split_names(folder: Path, refs_name: str) -> list[str]:
    """The splits that the refs file knows, sorted. Raises DataError as `read_refer`."""
    refs_path, _ = _files(folder, refs_name)
    return _split_names(_load_refs(refs_path), refs_path)


def annotation_digest(folder: Path, refs_name: str) -> str:
    """SHA-256 (hex) over the digests of the two annotation files: changes when either changes.

    Raises DataError where one is absent.
    """
    return sha256_of(_files(folder, refs_name))


def _files(folder: Path, refs_name: str) -> tuple[Path, Path]:
    paths = folder / refs_name, folder / INSTANCES
    for path in (folder, *paths):
        if not (path.is_dir() if path is folder else path.is_file()):
            raise DataError(
                f"{path} is not there, but a REFER data set is a folder (such as refcoco) that holds "
                f"{refs_name} and {INSTANCES}: set paths.data to the folder of all data sets or "
                "dataset.folder to this one."
            )
    return paths


def _load_refs(path: Path) -> list:
    refs = load_plain_pickle(path)
    if not isinstance(refs, list) or not refs:
        raise DataError(f"{path} holds no list of refs ({type(refs).__name__}): take the file from its publisher.")
    whole_ids(refs, "ref_id", "ann_id", "image_id")
    for ref in refs:
        whole_ids(ref.get("sentences") if isinstance(ref, dict) else None, "sent_id")
    return refs


def _split_names(refs: list, path: Path) -> list[str]:
    return sorted({field(ref, "split", str, f"ref number {number} of {path}") for number, ref in enumerate(refs)})


def _refs_of_split(refs: list, split: str, path: Path) -> list[dict]:
    names = _split_names(refs, path)
    if split not in names:
        known = f"choose one of {', '.join(names[:20])}" if names else "it holds no ref"
        raise DataError(f"There is no split {split!r} in {path}: {known}.")
    return [ref for ref in refs if ref["split"] == split]


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


class _Joiner:
    """Finds what a ref points to in instances.json; holds only the records that the refs at hand need."""

    def __init__(
        self, refs: list[dict], refs_path: Path, instances_path: Path, tally: Tally, boxes_stand: bool
    ) -> None:
        self._tally, self._boxes_stand = tally, boxes_stand
        self._refs_path, self._instances_path = refs_path, instances_path
        content, where = read_instances(instances_path), str(instances_path)
        image_ids = [field(ref, "image_id", int, self._name(ref)) for ref in refs]
        annotation_ids = [field(ref, "ann_id", int, self._name(ref)) for ref in refs]
        self._images = index_by_id(field(content, "images", list, where), image_ids, "image", instances_path)
        self._annotations = index_by_id(
            field(content, "annotations", list, where), annotation_ids, "annotation", instances_path
        )
        self._same_category = _objects_per_category(field(content, "annotations", list, where), set(image_ids))
        categories = field(content, "categories", list, where)
        category_ids = [field(each, "id", int, f"category number {n} of {where}") for n, each in enumerate(categories)]
        self._categories = index_by_id(categories, category_ids, "category", instances_path)

    def rows(self, ref: dict) -> list[_Row]:
        """The samples of one ref."""
        where = self._name(ref)
        image_id, annotation_id, ref_id = ref["image_id"], ref["ann_id"], field(ref, "ref_id", int, where)
        image = self._find(self._images, image_id, "image", where)
        annotation = self._find(self._annotations, annotation_id, "annotation", where)
        named = f"annotation {annotation_id} of {self._instances_path}"
        if (other := field(annotation, "image_id", int, named)) != image_id:
            raise DataError(
                f"{where} is about image {image_id}, but its {named} lies in image {other}: take both files "
                "from the same release."
            )
        category_id = field(annotation, "category_id", int, named)
        category = self._find(self._categories, category_id, "category", named)
        size = [side(image, key, f"image {image_id} of {self._instances_path}") for key in ("width", "height")]
        name = field(category, "name", str, f"category {category_id} of {self._instances_path}")
        box = xywh_box(annotation, named)
        mask = self._mask(annotation, box, size, named)
        same = max(1, self._same_category[image_id, category_id])  # a crowd alone counts no object
        rows: list[_Row] = []
        for sentence in field(ref, "sentences", list, where):
            sent_id, text = _sentence(sentence, where)
            sample = Sample(str(sent_id), str(ref_id), text, box, mask, name, same)
            rows.append((image_id, ref_id, sent_id, sample))
        return rows

    def group(self, image_id: int, rows: list[_Row], images: Path) -> ImageGroup:
        """One image with its samples, in the order of the rows."""
        image = self._images[image_id]
        name = field(image, "file_name", str, f"image {image_id} of {self._instances_path}")
        samples = tuple(row[3] for row in rows)
        inner = inner_name(name, f"image {image_id} of {self._instances_path}", images)
        return ImageGroup(str(image_id), find_image(images, inner), image["width"], image["height"], samples)

    def _mask(self, annotation: dict, box: Box, size: list[int], named: str) -> dict[str, object]:
        segmentation = annotation.get("segmentation")
        if self._boxes_stand and is_absent(segmentation):
            self._tally.seen["no mask"] += 1
            return box_mask(box, size[0], size[1], named)
        mask = to_rle(segmentation, size[0], size[1], named)
        if self._tally.counting:
            self._tally.seen["crowd"] += annotation.get("iscrowd") == 1
            self._tally.seen["overlap"] += overlapping(segmentation, *size)
        return mask

    def _name(self, ref: dict) -> str:
        return f"ref {short(ref.get('ref_id', 'without ref_id'))} of {self._refs_path}"

    def _find(self, index: dict[int, dict], key: int, what: str, where: str) -> dict:
        if key not in index:
            raise DataError(
                f"{where} names {what} {key}, which {self._instances_path} does not hold: take both files "
                "from the same release."
            )
        return index[key]


def read_instances(path: Path) -> object:
    """A COCO json, its ids as whole numbers where they can be."""
    content = read_json(path)
    if isinstance(content, dict):
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
