"""AGD20K: images with an affordance, and where on the object it is: a heat map, no box and no mask.

As its authors publish it (lhc1224/Cross-View-AG, arXiv 2203.09905): `{Seen,Unseen}/testset/egocentric/AFFORDANCE/
OBJECT/NAME.jpg` with the truth as an 8-bit image `{Seen,Unseen}/testset/GT/AFFORDANCE/OBJECT/NAME.png`. Their code,
and LOCATE's, pass over images without a truth, and so does this reader. There are no expressions: `dataset.template`
and `dataset.affordances` make them of the folders' names.
"""

import filecmp
from functools import cached_property
from pathlib import Path

from locheads.data.annotation_files import file_sha256
from locheads.data.config import DatasetConfig
from locheads.data.image_files import image_header, read_heat
from locheads.data.image_groups import Row, group_samples
from locheads.data.masks import empty_code
from locheads.data.own_reader import DataSetReader
from locheads.data.pathnames import slug
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError
from locheads.store.digest import json_digest
from locheads.types import NO_BOX, ImageGroup, Sample

FOLDERS = {"seen": "Seen", "unseen": "Unseen"}
"""Split -> its folder. Seen: the objects of training; Unseen: others."""
PHRASE, OBJECT = "{phrase}", "{object}"
"""What is filled in dataset.template, and in the phrases."""
_IMAGES = (".jpg", ".jpeg", ".png")


class Agd20kDataSet(DataSetReader):
    """The folder with Seen and Unseen."""

    def __init__(self, config: DatasetConfig, cache: Path) -> None:
        """Raises ConfigError for a template without {phrase}, and for a phrase without {object}."""
        super().__init__(config, cache)
        if PHRASE not in config.template:
            raise ConfigError(f"dataset.template={config.template} has no {{phrase}}: write where does one {{phrase}}.")
        for affordance, phrase in config.affordances.items():
            if OBJECT not in phrase:
                raise ConfigError(
                    f"dataset.affordances.{affordance}={phrase} has no {{object}}: write hold the {{object}}."
                )

    def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
        """The images of one split in the order of affordance, object and name, each with its affordances. Opens the
        header of every image, and every truth.

        Raises DataError, naming the file, for one that cannot be used; a `tally` that counts leaves it out.
        """
        tally = tally or Tally()
        truths = self._truths(split)
        images = [(path, image) for path in truths if (image := self._image(split, path)) is not None]
        seen: dict[str, Path] = {}
        rows = list(tally.each(self._row, images, split, seen))
        without = sum(1 for _ in self._root(split, "egocentric").glob("*/*/*")) - len(images)
        self.notes = [f"{without} images of {split} have no truth and are passed over, as by the authors' code."][
            :without
        ]
        return group_samples(rows, self._folder / FOLDERS[split], tally)

    def splits(self) -> list[str]:
        """Those that there are folders for."""
        return [split for split in FOLDERS if self._root(split, "GT").is_dir()]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents of the truths of all splits, and how expressions are made."""
        truths = [path for split in self.splits() for path in self._truths(split)]
        files = [[str(path.relative_to(self._folder)), file_sha256(path)] for path in truths]
        return json_digest([files, self._config.template, dict(self._config.affordances)])

    def _root(self, split: str, what: str) -> Path:
        return self._folder / FOLDERS[split] / "testset" / what

    def _truths(self, split: str) -> list[Path]:
        if split not in FOLDERS:
            raise DataError(
                f"AGD20K is read for its test images, {' and '.join(FOLDERS)}, and has no split {split} with truths: "
                "heads must be found on other data, so name them (heads.set)."
            )
        paths = sorted(self._root(split, "GT").glob("*/*/*.png"))
        if not paths:
            raise DataError(
                f"{self._root(split, 'GT')} holds no AFFORDANCE/OBJECT/NAME.png, the truths of AGD20K: set paths.data "
                "to the folder of all data sets, or dataset.folder to the one with Seen and Unseen."
            )
        return paths

    def _image(self, split: str, truth: Path) -> Path | None:
        """Of the truth's affordance, object and name."""
        place = self._root(split, "egocentric") / truth.parent.parent.name / truth.parent.name
        return next((path for ending in _IMAGES if (path := place / f"{truth.stem}{ending}").exists()), None)

    def _row(self, truth: Path, image: Path, split: str, seen: dict[str, Path]) -> Row:
        affordance, thing = truth.parent.parent.name, truth.parent.name
        read_heat(truth)  # before a model loads: a truth that cannot be used is no matter of its sample
        size = image_header(image).size
        sample_id = slug(f"{split}-{affordance}-{thing}-{truth.stem}")
        expression = self._expression(affordance, thing)
        image_id, path = _one_image(slug(f"{thing}-{truth.stem}"), image, affordance, seen)
        code = empty_code(*size)
        return image_id, path, size, Sample(
            sample_id, sample_id, expression, NO_BOX, code, thing, kinds=(affordance,), heat=truth
        )  # fmt: skip

    def _expression(self, affordance: str, thing: str) -> str:
        phrase = self._config.affordances.get(affordance)
        if phrase is None:
            raise DataError(
                f"{self._folder} has the affordance {affordance}, for which dataset.affordances has no phrase: add "
                f"dataset.affordances.{affordance}, such as {affordance.replace('_', ' ')} the {{object}}."
            )
        return self._config.template.replace(PHRASE, phrase.replace(OBJECT, thing.replace("_", " ")))


def _one_image(image_id: str, path: Path, affordance: str, seen: dict[str, Path]) -> tuple[str, Path]:
    """An image that several affordances have a copy of is one image, asked once; another one of its name is not."""
    first = seen.setdefault(image_id, path)
    if first == path or filecmp.cmp(first, path, shallow=False):
        return image_id, first
    return f"{affordance}-{image_id}", path
