"""The guard against leakage: which images are evaluated anywhere, so that discovery must not see them.

RefCOCO, RefCOCO+ and RefCOCOg take their images from COCO train2014, and an image of one's train split is in
another's test split. Images are compared by their COCO id.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from locheads.data.annotation_files import field, read_json, read_lines, sha256_of
from locheads.data.pathnames import coco_id, image_id_of, image_key, inner_name
from locheads.data.refer_files import load_refs
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError
from locheads.store.derived import read_derived_json, write_derived_json
from locheads.types import ImageGroup

BESIDE = "beside"
"""In the setting: every refs file in the data set's folder and in the folders beside it."""


def group_keys(groups: Iterable[ImageGroup]) -> set[str]:
    """What identifies the groups' images across data sets."""
    return {image_key(group.image_id, group.path.name) for group in groups}


def guarded_keys(entries: Iterable[str], folder: Path | None, discovery_split: str, cache: Path) -> dict[str, set[str]]:
    """File -> the keys of the images that it says are evaluated.

    An entry is "beside", a refs file (`*.p`, `grefs(*).json`: every split but `discovery_split`, and "train", counts as
    evaluated), a folder of such, a JSONL file (`image`) or a COCO json (`images`). Raises ConfigError for another kind
    of file, DataError for one that is absent or damaged. What refs files say is kept below `cache`, by their digest.
    """
    files: dict[str, set[str]] = {}
    for entry in entries:
        for path in _beside(folder) if entry == BESIDE else _files(Path(entry)):
            files[str(path)] = _keys(path, {discovery_split, "train"}, cache)
    return files


def _beside(folder: Path | None) -> list[Path]:
    return [] if folder is None else _refs_files(folder.absolute().parent, "*/")


def _refs_files(folder: Path, below: str = "") -> list[Path]:
    return sorted(path for name in ("refs(*).p", "grefs(*).json") for path in folder.glob(below + name))


def _files(path: Path) -> list[Path]:
    found = sorted([*_refs_files(path), *_refs_files(path, "*/")]) if path.is_dir() else [path]
    if not found or not found[0].is_file():
        raise DataError(
            f"dataset.guard names {path}, which is neither a file nor a folder with refs files: correct it, or take it "
            "out of the list."
        )
    return found


def _keys(path: Path, own: set[str], cache: Path) -> set[str]:
    if path.suffix == ".p" or path.match("grefs(*).json"):
        return {key for split, keys in _refs_keys(path, cache).items() if split not in own for key in keys}
    if path.suffix == ".jsonl":
        lines = read_lines(path, Tally())
        return {key for where, record in lines for key in _name_keys(field(record, "image", str, where), where)}
    if path.suffix == ".json":
        images = field(read_json(path), "images", list, str(path))
        where = f"an image of {path}"
        return {key for image in images for key in _name_keys(field(image, "file_name", str, where), where)}
    raise ConfigError(f"dataset.guard names {path}, but it can read refs files (*.p), *.jsonl and COCO *.json only.")


def _refs_keys(path: Path, cache: Path) -> dict[str, list[str]]:
    """Split -> its COCO image ids. Unpickling takes seconds, so what was found is kept."""
    kept = cache / "data" / f"guard-{sha256_of([path])[:16]}.json"
    if (content := read_derived_json(kept)) is not None:
        return content["splits"]
    keys = defaultdict(set)
    for number, ref in enumerate(load_refs(path)):
        where = f"ref number {number} of {path}"
        keys[field(ref, "split", str, where)].add(str(field(ref, "image_id", int, where)))
    found = {split: sorted(ids) for split, ids in keys.items()}
    write_derived_json(kept, {"splits": found})
    return found


def _name_keys(name: str, where: str) -> set[str]:
    """What the image may be known by: whether a file's numbers are COCO's, it does not say."""
    number = coco_id(name, of_coco=True)
    return {image_id_of(inner_name(name, where))} | ({str(number)} if number is not None else set())
