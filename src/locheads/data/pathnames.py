"""Names of images: COCO's naming, ids that can be file names, and where an image lies."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from locheads.errors import DataError

_COCO = re.compile(r"(?P<stem>COCO_(?:train|val|test)\d{4}_(?P<id>\d{12}))(?:_\d+)?(?P<suffix>\.\w+)")
_COCO_2017 = re.compile(r"(?P<id>\d{12})\.jpg")


def coco_id(name: str, of_coco: bool = False) -> int | None:
    """The COCO image id in a file name: `COCO_train2014_000000000009.jpg`, or REFER's
    `COCO_train2014_000000000009_3.jpg`. None for any other name.

    `of_coco`: the image is known to be one of COCO, whose names of 2017 are numbers (`000000000009.jpg`), as are
    those of many cameras and films.
    """
    match = _COCO.fullmatch(Path(name).name) or (_COCO_2017.fullmatch(Path(name).name) if of_coco else None)
    return int(match["id"]) if match else None


def plain_name(name: str) -> str:
    """A COCO name without folders and without the annotation number that REFER appends; other names as they are."""
    match = _COCO.fullmatch(Path(name).name)
    return match["stem"] + match["suffix"] if match else name


def image_id_of(name: str, of_coco: bool = False) -> str:
    """What identifies an image across files and data sets: its COCO id, else its name as far as a file may have it.

    One id for both Unicode forms of a name: which of them an image has on disk depends on the machine.
    """
    number = coco_id(name, of_coco)
    return str(number) if number is not None else slug(unicodedata.normalize("NFC", name))


def image_key(image_id: str, name: str) -> str:
    """What identifies an image across data sets: its COCO id where its file name tells it, else the image id."""
    number = coco_id(name)
    return str(number) if number is not None else image_id


def slug(text: str) -> str:
    """The text with everything but letters, digits, dots, plus and minus as `_`: may name a file."""
    return re.sub(r"[^\w.+-]+", "_", text).lstrip(".")[:150] or "_"


def inner_name(name: str, where: str, folder: Path | None = None, what: str = "image") -> str:
    """The one spelling of a name below a folder: `./a.jpg` -> `a.jpg`, also from an absolute name in it.

    Raises DataError for a name that leads out of the folder, and for an absolute one where no folder is known.
    """
    inner = posixpath.normpath(name)
    if posixpath.isabs(inner):
        # As it is written, or with links followed: either may be how the folder was named.
        folders = [] if folder is None else [os.path.abspath(folder), os.path.realpath(folder)]
        known = next((f for f in folders if Path(inner).is_relative_to(f)), None)
        inner = ".." if known is None else str(Path(inner).relative_to(known))
    if inner.split("/")[0] == "..":
        of = f"the {what} folder" if folder is None else str(folder)
        shown = name if len(name) < 300 else name[:300] + "..."
        raise DataError(f"{where} names the {what} {shown}, which does not lie in {of}: write its name in there.")
    return inner


def find_image(images: Path, name: str) -> Path:
    """Where the image `name` lies in the folder: under its name, or under the one that COCO 2017 gave it.

    train2017 holds all of train2014, as `000000000009.jpg`. Where neither is there: under its own name.
    """
    path, number = find_file(images, name), coco_id(name)
    # os.path, because Path.exists raises for a name that no file can have.
    if number is not None and path.suffix == ".jpg" and not os.path.exists(path):
        renamed = images / f"{number:012d}.jpg"
        if renamed.exists():
            return renamed
    return path


def find_file(folder: Path, name: str) -> Path:
    """The file of this name in whichever Unicode form a part of it has on disk (macOS writes é as e and an accent)."""
    path = folder / name
    if name.isascii() or os.path.lexists(path):
        return path
    found = folder
    for part in Path(name).parts:
        forms = [part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))]
        found /= next((form for form in forms if os.path.lexists(found / form)), part)
    return found


def real_places(folders: Iterable[Path]) -> list[str]:
    """Where the folders themselves lie once every link is followed: the user named these.

    What the cache of the Hugging Face hub links to, beside its `snapshots`, counts as in them.
    """
    places = [os.path.realpath(folder) for folder in folders]
    return places + [place.partition("/snapshots/")[0] + "/blobs" for place in places if "/snapshots/" in place]


def leads_out(path: Path, places: Iterable[str]) -> str | None:
    """Where a file lies once every link is followed, if that is in none of the `real_places`."""
    try:
        real = os.path.realpath(path)
    except ValueError:  # a name that no file can have, which is said where it is opened
        return None
    return None if any(real == place or real.startswith(place.rstrip("/") + "/") for place in places) else real
