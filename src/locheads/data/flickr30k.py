"""Flickr30k Entities (Plummer et al., IJCV 2017): the phrases of a caption, each with the boxes of its entity.

`Sentences/ID.txt` holds a caption a line, `[/EN#7/people A man] rides ...`; `Annotations/ID.xml` is of VOC's form:
corners count from 1, both included. An entity that is the whole scene, is not in the image or is not visual (its number
is 0) has no box, and its phrases are not asked: so do flickr30k_entities_utils.py (github.com/BryanPlummer/
flickr30k_entities) and MDETR's evaluator (ashkamath/mdetr `datasets/flickr_eval.py`).
"""

import re
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from locheads.data.annotation_files import read_text, sha256_of
from locheads.data.config import Asked, BoxReading
from locheads.data.image_groups import Row, group_samples
from locheads.data.masks import around, box_mask, union
from locheads.data.own_reader import DataSetReader
from locheads.data.pathnames import image_id_of, slug
from locheads.data.refer_files import VERSION
from locheads.data.sample_tables import kept_samples
from locheads.data.tally import Tally
from locheads.errors import DataError, boundary
from locheads.store.digest import json_digest
from locheads.types import Box, Excerpt, ImageGroup, Sample

SPLITS = ("train", "val", "test")
LAYOUT = "Flickr30k Entities is a folder with train.txt, val.txt, test.txt, Sentences/ and Annotations/"
_PHRASE = re.compile(r"\[/EN#(?P<entity>\d+)/(?P<types>\S+) (?P<text>[^\]]+)\]")


class Phrase(NamedTuple):
    """A phrase that is marked in a caption."""

    entity: str
    """Its number in the annotations; "0" where it is not visual."""
    types: tuple[str, ...]
    excerpt: Excerpt
    """The caption without marks, with the phrase as its part."""


class Entities(NamedTuple):
    """What an annotation file says."""

    size: tuple[int, int]
    """(width, height) of the image."""
    boxes: dict[str, list[Box]]
    """Of every entity that has any."""


class FlickrDataSet(DataSetReader):
    """The published folder; the images lie in `dataset.images` as ID.jpg. Each split is kept as a table once it was
    read."""

    notes = ("It has boxes only, so no mask figure on it means anything.",)

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The phrases of one split, in the order of its list, its captions and their words.

        Raises DataError, naming the file, for one that cannot be used; a `tally` that counts leaves its image out.
        """
        table = self._cache / "data" / f"flickr30k-{self.digest[:16]}-v{VERSION}" / f"{slug(split)}.parquet"
        return kept_samples(table, self._images, tally, lambda tally: self._read_files(split, tally))

    def splits(self) -> list[str]:
        """Those that there are lists for."""
        return [split for split in SPLITS if (self._folder / f"{split}.txt").is_file()]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over lists, captions and annotations of all splits, and how phrases are asked."""
        lists = [self._folder / f"{split}.txt" for split in self.splits()]
        files = [path for split in self.splits() for name in self._names(split) for path in self._paths(name)]
        here = [path for path in files if path.is_file()]  # what is absent, the reader of its split says
        return json_digest([sha256_of([*lists, *here]), self._config.asked, self._config.boxes])

    def _names(self, split: str) -> list[str]:
        path = self._folder / f"{split}.txt"
        if not path.is_file():
            raise DataError(f"{path} is not there, but {LAYOUT}: set paths.data or dataset.folder, or another split.")
        return read_text(path).split()

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self._folder / "Sentences" / f"{name}.txt", self._folder / "Annotations" / f"{name}.xml"

    def _read_files(self, split: str, tally: Tally) -> list[ImageGroup]:
        names = self._names(split)
        tally.seen["images"] += len(names)
        rows = tally.each(self._rows, ((name,) for name in names))
        return group_samples(chain.from_iterable(rows), self._folder / f"{split}.txt", tally)

    def _rows(self, name: str) -> list[Row]:
        captions, annotations = self._paths(name)
        entities, path = read_entities(annotations), self._images / f"{name}.jpg"
        return [
            (image_id_of(path.name), path, entities.size, self._sample(f"{name}-{i}-{j}", name, phrase, entities))
            for i, caption in enumerate(read_text(captions).splitlines())
            for j, phrase in enumerate(phrases(caption, f"{captions}, line {i + 1}"))
            if phrase.entity in entities.boxes
        ]

    def _sample(self, sample_id: str, name: str, phrase: Phrase, entities: Entities) -> Sample:
        boxes, where = entities.boxes[phrase.entity], f"entity {phrase.entity} of image {name}"
        whole = around(boxes)
        start, end = phrase.excerpt.part
        return Sample(
            sample_id, f"{name}-{phrase.entity}", phrase.excerpt[start:end], whole,
            union([box_mask(box, *entities.size, where) for box in boxes]), "/".join(phrase.types),
            alternatives=tuple(boxes) if self._config.boxes == BoxReading.any else (whole,), kinds=phrase.types,
            sentence=phrase.excerpt if self._config.asked == Asked.in_text else None,
        )  # fmt: skip


def phrases(caption: str, where: str) -> list[Phrase]:
    """The marked phrases of a caption, those without boxes among them. Raises DataError where a mark is broken."""
    parts = list(_PHRASE.finditer(caption))
    plain = _PHRASE.sub(lambda match: match["text"], caption)
    if "/EN#" in plain:
        raise DataError(
            f"{where} has a broken mark, but a phrase is written [/EN#7/people A man]: copy the file again."
        )
    found, shift = [], 0
    for match in parts:
        start = match.start() - shift
        end = start + len(match["text"])
        shift += len(match[0]) - len(match["text"])
        types = tuple(match["types"].split("/"))
        found.append(Phrase(match["entity"], types, Excerpt.within(plain[:start], plain[start:end], plain[end:])))
    return found


def read_entities(path: Path) -> Entities:
    """An annotation file. Raises DataError where it is absent or not what VOC writes."""
    with boundary(f"{path} is not of VOC's form", DataError, "copy it again."):
        root = ElementTree.fromstring(read_text(path))
        width, height = (int(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
        boxes: dict[str, list[Box]] = {}
        for entity in root.iter("object"):
            for own in entity.iter("bndbox"):
                x0, y0, x1, y1 = (float(own.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax"))
                for name in entity.iter("name"):
                    # The first pixel is 1 there, and the last one belongs to the box.
                    boxes.setdefault(str(name.text), []).append((x0 - 1, y0 - 1, x1, y1))
    return Entities((width, height), boxes)
