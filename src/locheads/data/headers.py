"""Compares what annotations say of their images with the images' headers, before anything is computed from them.

Boxes, masks and images are taken in the pixels as they are stored. Labelling tools and phones often mean another
frame: the image as viewers show it, turned by its EXIF orientation, or width and height exchanged.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locheads.data.image_files import Header, image_header, size_problem
from locheads.data.pathnames import leads_out, real_places
from locheads.errors import DataError
from locheads.types import ImageGroup

log = logging.getLogger(__name__)

LEADS_OUT = (
    "{} is a link to {}, outside of the data set's folders: copy the file, or name the folder that it leads to in "
    "dataset.links."
)
_SHOWN = 3
SLACK = 1.0
"""Pixels by which a box may leave its image: annotators' rounding."""


@dataclass
class Headers:
    """What the headers of some images say; each list holds one entry per image."""

    images: int = 0
    absent: list[str] = field(default_factory=list)
    """Why a header cannot be read."""
    wrong: list[str] = field(default_factory=list)
    """Contradictions with the annotations."""
    turned: list[str] = field(default_factory=list)
    """Those that viewers turn or mirror, though nothing contradicts the annotations: path and orientation."""

    def note(self) -> str | None:
        """A sentence on the turned ones, which may be right or wrong; None where there are none."""
        if not self.turned:
            return None
        return (
            f"{len(self.turned):,} of {self.images:,} images are turned or mirrored when shown, the first: "
            f"{self.turned[0]}. Boxes and masks are taken in the pixels as stored: save these images upright if they "
            "were drawn on the upright ones."
        )


def read_headers(groups: Iterable[ImageGroup], folders: Sequence[Path]) -> Headers:
    """Opens the header of every image, not its pixels, and none that a link leads to outside of `folders`.

    Raises nothing for an image: it is in one of the lists.
    """
    found, places = Headers(), real_places(folders)
    for group in groups:
        found.images += 1
        if real := leads_out(group.path, places):
            found.wrong.append(LEADS_OUT.format(f"The image {group.path} of image {group.image_id}", real))
            continue
        try:
            header = image_header(group.path)
        except DataError as error:
            found.absent.append(str(error))
            continue
        if problem := size_problem(group, header) or _upright_boxes(group, header):
            found.wrong.append(problem)
        elif header.orientation != 1:
            found.turned.append(f"{group.path} (EXIF orientation {header.orientation})")
    return found


def check_headers(groups: Iterable[ImageGroup], folders: Sequence[Path]) -> list[str]:
    """What a run says of its images' headers: logged, and returned for its records. `folders`: see `read_headers`.

    Raises DataError, with the first images and their count, where annotations and headers contradict each other. An
    image that is not there is no error here: what needs it says so, and predictions are scored without any.
    """
    headers = read_headers(groups, folders)
    if headers.wrong:
        many = len(headers.wrong) > 1
        count = f"{len(headers.wrong):,} of {headers.images:,} images contradict their annotations. " if many else ""
        raise DataError(count + " ".join(headers.wrong[:_SHOWN]))
    if headers.absent:
        log.warning(
            "The headers of %d of %d images cannot be read, so their sizes are taken on trust, the first: %s",
            len(headers.absent), headers.images, headers.absent[0],
        )  # fmt: skip
    note = headers.note()
    if note is None:
        return []
    log.warning("%s", note)
    return [note]


def inside(box: Any, width: Any, height: Any) -> Any:
    """Whether the xyxy box leaves the image by rounding at most. Columns of boxes and sizes give a column."""
    return (box[0] >= -SLACK) & (box[1] >= -SLACK) & (box[2] <= width + SLACK) & (box[3] <= height + SLACK)


def _upright_boxes(group: ImageGroup, header: Header) -> str | None:
    """A sentence where boxes fit the upright image only, though the annotated size is that of the stored one."""
    if header.upright == header.size:
        return None
    outside = [s for s in group.samples if not inside(s.box, *header.size) and inside(s.box, *header.upright)]
    if not outside:
        return None
    return (
        f"The image {group.path} of image {group.image_id} is stored with {header.size[0]} x {header.size[1]} pixels "
        f"and turned when shown (EXIF orientation {header.orientation}), and the box of its sample "
        f"{outside[0].sample_id} fits the image as shown only: boxes are taken in the pixels as stored, so save the "
        "image upright."
    )
