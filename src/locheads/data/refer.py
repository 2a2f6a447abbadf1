"""The REFER annotations (RefCOCO, RefCOCO+, RefCOCOg and the pocket data) as groups per picture.

A data set is a folder with `refs(SPLITTER).p` (who said what about which annotation) and `instances.json`
(COCO annotations). Layout and meaning after the publishers' reader, https://github.com/lichengunc/refer. A
ref's own `file_name` is wrong in the published files ("COCO_train2014_000000581857_16.jpg"): its `image_id`
decides.
"""

import hashlib
import logging
from itertools import groupby
from pathlib import Path

from locheads.data.masks import to_rle
from locheads.data.pickles import load_plain_pickle
from locheads.data.records import field, index_by_id, no_garbage_collection, read_json, short, side, xywh_box
from locheads.errors import DataError
from locheads.types import ImageGroup, Sample

logger = logging.getLogger(__name__)

INSTANCES = "instances.json"

_Row = tuple[int, int, int, Sample]
"""(image id, ref id, sentence id, sample): sorts in the order of the output."""


@no_garbage_collection()
def read_refer(folder: Path, refs_name: str, images: Path, split: str) -> list[ImageGroup]:
    """The expressions of one split, grouped by picture; ordered by image id, ref id, sentence id.

    `folder` holds `refs_name` (such as "refs(unc).p") and instances.json; `images` holds the pictures under
    the names that instances.json gives them (COCO: `COCO_train2014_000000000009.jpg`). Pictures are not
    opened. Raises DataError, naming the file and the record, where anything is absent or contradictory.
    """
    refs_path, instances_path = _files(folder, refs_name)
    refs = _refs_of_split(_load_refs(refs_path), split, refs_path)
    joiner = _Joiner(refs, refs_path, instances_path)
    rows = sorted((row for ref in refs for row in joiner.rows(ref)), key=lambda row: row[:3])
    _check_unique(rows, refs_path)
    if not rows:
        raise DataError(f"The refs of split {split!r} in {refs_path} hold no sentence: choose another split.")
    return [joiner.group(image_id, list(of_image), images) for image_id, of_image in groupby(rows, lambda r: r[0])]


def split_names(folder: Path, refs_name: str) -> list[str]:
    """The splits that the refs file knows, sorted. Raises DataError as `read_refer`."""
    refs_path, _ = _files(folder, refs_name)
    return _split_names(_load_refs(refs_path), refs_path)


def annotation_digest(folder: Path, refs_name: str) -> str:
    """SHA-256 (hex) over the digests of the two annotation files: changes when either changes.

    Raises DataError where one is absent.
    """
    whole = hashlib.sha256()
    for path in _files(folder, refs_name):
        with path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


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
    return refs


def _split_names(refs: list, path: Path) -> list[str]:
    return sorted({field(ref, "split", str, f"ref number {number} of {path}") for number, ref in enumerate(refs)})


def _refs_of_split(refs: list, split: str, path: Path) -> list[dict]:
    names = _split_names(refs, path)
    if split not in names:
        raise DataError(f"There is no split {split!r} in {path}: choose one of {', '.join(names[:20])}.")
    return [ref for ref in refs if ref["split"] == split]


def _check_unique(rows: list[_Row], path: Path) -> None:
    first_ref: dict[int, int] = {}
    for _, ref_id, sent_id, _ in rows:
        if sent_id in first_ref:
            raise DataError(
                f"{path} holds the sentence id {sent_id} twice (refs {first_ref[sent_id]} and {ref_id}): "
                "sentence ids name the samples, so renumber them."
            )
        first_ref[sent_id] = ref_id


class _Joiner:
    """Finds what a ref points to in instances.json; holds only the records that the refs at hand need."""

    def __init__(self, refs: list[dict], refs_path: Path, instances_path: Path) -> None:
        self._refs_path, self._instances_path = refs_path, instances_path
        content, where = read_json(instances_path), str(instances_path)
        image_ids = [field(ref, "image_id", int, self._name(ref)) for ref in refs]
        annotation_ids = [field(ref, "ann_id", int, self._name(ref)) for ref in refs]
        self._images = index_by_id(field(content, "images", list, where), image_ids, "image", instances_path)
        self._annotations = index_by_id(
            field(content, "annotations", list, where), annotation_ids, "annotation", instances_path
        )
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
        mask = to_rle(annotation.get("segmentation"), size[0], size[1], named)
        rows: list[_Row] = []
        for sentence in field(ref, "sentences", list, where):
            sent_id, text = _sentence(sentence, where)
            rows.append((image_id, ref_id, sent_id, Sample(str(sent_id), str(ref_id), text, box, mask, name)))
        return rows

    def group(self, image_id: int, rows: list[_Row], images: Path) -> ImageGroup:
        """One picture with its samples, in the order of the rows."""
        image = self._images[image_id]
        name = field(image, "file_name", str, f"image {image_id} of {self._instances_path}")
        samples = tuple(row[3] for row in rows)
        return ImageGroup(str(image_id), images / name, image["width"], image["height"], samples)

    def _name(self, ref: dict) -> str:
        return f"ref {short(ref.get('ref_id', 'without ref_id'))} of {self._refs_path}"

    def _find(self, index: dict[int, dict], key: int, what: str, where: str) -> dict:
        if key not in index:
            raise DataError(
                f"{where} names {what} {key}, which {self._instances_path} does not hold: take both files "
                "from the same release."
            )
        return index[key]


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
