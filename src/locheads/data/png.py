"""Panoptic Narrative Grounding (González et al., ICCV 2021): the phrases of a narrative, each with its segments.

`png_coco_{split}2017.json` holds narratives whose segments are an `utterance`, `segment_ids` (text; unique per image
only), `noun` and `plural`; `panoptic_{split}2017.json` the images and segments of COCO's panoptic masks, which are
images of ids (R + 256 G + 65536 B). How the phrases are scored, after public code (`dataset.reading`):

- original (BCV-Uniandes/PNG `baseline/`): noun phrases with segments; those with several are plural; the last
  segment's category says whether it is a thing; masks of 256 squared, resized to the image's size, soft, are compared.
  Two accidents of its loader are not taken over: it drops narratives whose words BERT's tokenizer counts otherwise, and
  takes neighbouring phrases without a word between them for one.
- flmm (wusize/F-LMM `flmm/datasets/png.py`): phrases with segments; plural as annotated, and every plural one is a
  thing; masks as they are. A narrative without segments is replaced by one drawn at random (there without a seed).
- groundlmm (Shengcao-Cao/groundLMM `aas/png.py`): as flmm, but such a narrative is left out, and a phrase of one
  segment is a thing by that segment's category, whatever its number; one of several is a thing.
"""

import random
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import numpy as np
from jaxtyping import UInt32

from locheads.data.annotation_files import (
    field,
    index_by_id,
    mapping,
    no_garbage_collection,
    read_json,
    sha256_of,
    side,
)
from locheads.data.config import Asked, Phrases, PngReading
from locheads.data.image_files import opened
from locheads.data.image_groups import Row, group_samples
from locheads.data.masks import encode, tight_box
from locheads.data.nouns import last_noun
from locheads.data.own_reader import DataSetReader
from locheads.data.pathnames import image_id_of, inner_name, slug
from locheads.data.refer_files import VERSION
from locheads.data.sample_tables import kept_samples
from locheads.data.tally import Tally
from locheads.errors import DataError
from locheads.store.digest import json_digest
from locheads.types import Excerpt, ImageGroup, Sample

SPLITS = ("train", "val")
LAYOUT = (
    "Panoptic Narrative Grounding is a folder with png_coco_val2017.json, panoptic_val2017.json and the id images in "
    "panoptic_segmentation/val2017 or panoptic_val2017, all of it also below annotations/"
)
ORIGINAL_SIDE = 256
_SEED = 0
"""Of the narratives that replace those without segments."""


class Panoptic(NamedTuple):
    """What panoptic_{split}2017.json holds, by id."""

    images: dict[int, dict]
    annotations: dict[int, dict]
    """By the image's id."""
    categories: dict[int, dict]


class Scene(NamedTuple):
    """The segments of an image."""

    number: int
    """The image's id."""
    ids: UInt32[np.ndarray, "height width"]
    segments: dict[int, dict]
    """By id, with their `category`."""


class PngDataSet(DataSetReader):
    """The published folder, as the authors or F-LMM lay it out. Each split is kept as a table once it was read: the id
    images are opened then."""

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The grounded phrases of one split, in the order of the narratives and their words.

        Raises DataError, naming file and narrative, for one that cannot be used; a `tally` that counts leaves it out.
        """
        table = self._cache / "data" / f"png-{self.digest[:16]}-v{VERSION}" / f"{slug(split)}.parquet"
        return kept_samples(table, self._images, tally, lambda tally: self._read_files(split, tally))

    def splits(self) -> list[str]:
        """Those that there are narratives of."""
        return [split for split in SPLITS if self._narratives(split).is_file()]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the JSON files of all splits, and how phrases are taken. The id images are COCO's, and must
        have the areas that these files say."""
        files = [path for split in self.splits() for path in (self._narratives(split), self._panoptic(split))]
        how = self._config.reading, self._config.phrases, self._config.asked
        return json_digest([sha256_of(files), how])

    @cached_property
    def _annotations(self) -> Path:
        below = self._folder / "annotations"
        return below if below.is_dir() else self._folder

    def _narratives(self, split: str) -> Path:
        return self._annotations / f"png_coco_{split}2017.json"

    def _panoptic(self, split: str) -> Path:
        return self._annotations / f"panoptic_{split}2017.json"

    @no_garbage_collection()
    def _read_files(self, split: str, tally: Tally) -> list[ImageGroup]:
        path = self._narratives(split)
        if not path.is_file():
            raise DataError(f"{path} is not there, but {LAYOUT}: set paths.data or dataset.folder, or another split.")
        narratives = read_json(path)
        if not isinstance(narratives, list):
            raise DataError(f"{path} is no list of narratives: take the file from its publisher.")
        images = _first_folder(self._images / f"{split}2017", self._images)
        named = self._named(narratives, split, path)
        rows = tally.each(self._rows, named, read_panoptic(self._panoptic(split)), split, images)
        return group_samples(chain.from_iterable(rows), path, tally)

    def _named(self, narratives: list, split: str, path: Path) -> list[tuple[str, dict, str]]:
        """(id, narrative, what it is called in sentences)."""
        found = [(n, mapping(record, f"narrative {n} of {path}")) for n, record in enumerate(narratives)]
        grounded = [(n, record) for n, record in found if any(map(self._is_grounded, record.get("segments") or []))]
        if self._config.reading == PngReading.flmm and grounded:
            drawn, by_number = random.Random(_SEED), dict(grounded)
            grounded = [(n, by_number.get(n) or drawn.choice(grounded)[1]) for n, _ in found]
        return [(f"{split}-{n}", record, f"narrative {n} of {path}") for n, record in grounded]

    def _is_grounded(self, segment: object) -> bool:
        if not isinstance(segment, dict):
            return False
        is_noun = self._config.reading != PngReading.original or segment.get("noun")
        return bool(is_noun and segment.get("segment_ids"))

    def _rows(self, own: str, narrative: dict, where: str, panoptic: Panoptic, split: str, images: Path) -> list[Row]:
        scene, name = self._scene(_number(narrative.get("image_id"), where), where, panoptic, split)
        phrases = field(narrative, "segments", list, where)
        texts = [field(phrase, "utterance", str, where) for phrase in phrases]
        of_image = image_id_of(name, of_coco=True), images / name, scene.ids.shape[::-1]
        return [
            (*of_image, self._sample(f"{own}-{k}", phrase, _excerpt(texts, k), scene, where))
            for k, phrase in enumerate(phrases)
            if self._is_grounded(phrase)
        ]

    def _scene(self, number: int, where: str, panoptic: Panoptic, split: str) -> tuple[Scene, str]:
        """The segments of an image, and the name of its file."""
        path = self._panoptic(split)
        if number not in panoptic.images or number not in panoptic.annotations:
            raise DataError(f"{where} is about image {number}, which {path} lacks: take both files from one release.")
        image, annotation, of_image = panoptic.images[number], panoptic.annotations[number], f"image {number} of {path}"
        size = side(image, "width", of_image), side(image, "height", of_image)
        ids = self._ids(split, inner_name(field(annotation, "file_name", str, of_image), of_image), size)
        segments = {}
        for segment in field(annotation, "segments_info", list, of_image):
            category = panoptic.categories.get(field(segment, "category_id", int, of_image), {})
            segments[field(segment, "id", int, of_image)] = segment | {"category": category}
        return Scene(number, ids, segments), inner_name(field(image, "file_name", str, of_image), of_image)

    def _ids(self, split: str, name: str, size: tuple[int, int]) -> UInt32[np.ndarray, "height width"]:
        """The segment of every pixel."""
        nested = self._annotations / "panoptic_segmentation" / f"{split}2017"
        path = _first_folder(nested, self._annotations / f"panoptic_{split}2017") / name
        with opened(path, f"image {Path(name).stem}") as image:
            if image.size != size:
                raise DataError(f"{path} has another size than its image: take both from the same release.")
            return np.asarray(image.convert("RGB"), dtype=np.uint32) @ np.array([1, 256, 65536], dtype=np.uint32)

    def _sample(self, sample_id: str, phrase: dict, excerpt: Excerpt, scene: Scene, where: str) -> Sample:
        named = [_number(each, where) for each in field(phrase, "segment_ids", list, where)]
        own = sorted(set(named))
        if absent := [each for each in own if each not in scene.segments]:
            raise DataError(f"{where} names segment {absent[0]}, which its image lacks: take both files anew.")
        mask = np.isin(scene.ids, own)
        if mask.sum() != sum(field(scene.segments[each], "area", int, where) for each in own):
            raise DataError(f"{where} has segments {own} of another area in the id image: take all from one release.")
        categories = [scene.segments[each]["category"] for each in named]
        code, asked = encode(mask, where), last_noun(excerpt) if self._config.phrases == Phrases.nouns else excerpt
        return Sample(
            sample_id, f"{scene.number}-{'+'.join(map(str, own))}", asked.parts[1], tight_box(code), code,
            str(categories[-1].get("name", "")), kinds=self._kinds(phrase, categories), panoptic=True,
            mask_side=ORIGINAL_SIDE if self._config.reading == PngReading.original else None,
            sentence=asked if self._config.asked == Asked.in_text else None,
        )  # fmt: skip

    def _kinds(self, phrase: dict, categories: list[dict]) -> tuple[str, str]:
        is_thing, plural, several = bool(categories[-1].get("isthing")), bool(phrase.get("plural")), len(categories) > 1
        match self._config.reading:
            case PngReading.original:
                plural = several
            case PngReading.flmm:
                is_thing = is_thing or plural
            case PngReading.groundlmm:
                is_thing = is_thing or several
            case _:
                assert_never(self._config.reading)
        return "things" if is_thing else "stuff", "plurals" if plural else "singulars"


def read_panoptic(path: Path) -> Panoptic:
    """Raises DataError where the file is absent, or not of COCO's panoptic form."""
    content: dict[str, Any] = mapping(read_json(path), str(path))
    images, categories = (
        index_by_id(field(content, key, list, str(path)), None, what, path)
        for key, what in (("images", "image"), ("categories", "category"))
    )
    annotations = field(content, "annotations", list, str(path))
    return Panoptic(images, {_number(a.get("image_id"), str(path)): a for a in annotations}, categories)


def _first_folder(*folders: Path) -> Path:
    """The first that is there."""
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _excerpt(texts: list[str], k: int) -> Excerpt:
    return Excerpt.within("".join(texts[:k]), texts[k], "".join(texts[k + 1 :]))


def _number(value: object, where: str) -> int:
    """An id, which is text in some of the files and a number in others."""
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isdecimal():
        raise DataError(f"{where} has an id that is no whole number ({value!r:.60}): take the file from its publisher.")
    return int(value)
