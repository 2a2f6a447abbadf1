"""Names of pictures: COCO's naming, ids that can be file names, and where a picture lies."""

import os
import re
from pathlib import Path

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
