"""Names of pictures: COCO's naming, ids that can be file names, and where a picture lies."""

import os
import posixpath
import re
from pathlib import Path

from locheads.errors import DataError

_COCO = re.compile(r"(?P<stem>(?:COCO_(?:train|val|test)\d{4}_)?(?P<id>\d{12}))(?:_\d+)?(?P<suffix>\.\w+)")


def coco_id(name: str) -> int | None:
    """The COCO image id in a file name: `COCO_train2014_000000000009.jpg`, `000000000009.jpg` (train2017), or
    REFER's `COCO_train2014_000000000009_3.jpg`. None for any other name."""
    match = _COCO.fullmatch(Path(name).name)
    return int(match["id"]) if match else None


def plain_name(name: str) -> str:
    """The file name without folders and without the annotation number that REFER appends to COCO's names."""
    match = _COCO.fullmatch(Path(name).name)
    return match["stem"] + match["suffix"] if match else Path(name).name


def slug(text: str) -> str:
    """The text with everything but letters, digits, dots, plus and minus as `_`: may name a file."""
    return re.sub(r"[^\w.+-]+", "_", text).lstrip(".")[:150] or "_"


def inner_name(name: str, where: str, images: Path | None = None) -> str:
    """The one spelling of a name below the picture folder: `./a.jpg` -> `a.jpg`, also from an absolute name in it.

    Raises DataError for a name that leads out of the folder, and for an absolute one where no folder is known.
    """
    inner = posixpath.normpath(name)
    if posixpath.isabs(inner):
        # As it is written, or with links followed: either may be how the folder was named.
        folders = [] if images is None else [os.path.abspath(images), os.path.realpath(images)]
        folder = next((f for f in folders if Path(inner).is_relative_to(f)), None)
        inner = ".." if folder is None else str(Path(inner).relative_to(folder))
    if inner.split("/")[0] == "..":
        of = "the picture folder" if images is None else str(images)
        shown = name if len(name) < 300 else name[:300] + "..."
        raise DataError(f"{where} names the picture {shown}, which does not lie in {of}: write its name in there.")
    return inner


def find_picture(images: Path, name: str) -> Path:
    """Where the picture `name` lies in the folder: under its name, or under the one that COCO 2017 gave it.

    train2017 holds all of train2014, as `000000000009.jpg`. Where neither is there: under its own name.
    """
    path, number = images / name, coco_id(name)
    # os.path, because Path.exists raises for a name that no file can have.
    if number is not None and not os.path.exists(path):
        renamed = images / f"{number:012d}.jpg"
        if renamed.exists():
            return renamed
    return path


def picture_key(image_id: str, name: str) -> str:
    """What identifies a picture across data sets: its COCO id where its file name tells it, else the image id."""
    number = coco_id(name)
    return str(number) if number is not None else image_id
