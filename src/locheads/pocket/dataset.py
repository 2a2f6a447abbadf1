"""The pocket data sets in the files of RefCOCO: JPEG images, COCO `instances.json`, REFER `refs(unc).p`."""

import json
import logging
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from locheads.errors import ConfigError, DataError, StoreError
from locheads.pocket.language import Expression, sample_expression
from locheads.pocket.render import render
from locheads.pocket.scenes import SHAPES, Scene, SceneObject, sample_scene, sample_small_scene
from locheads.store.atomic import write_bytes, write_json
from locheads.store.digest import file_digest, json_digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PocketSet:
    """What one of the data sets is made of."""

    name: str
    version: int
    digest: str
    """sha256 of its annotations; "" of one that is not fixed."""
    splits: Mapping[str, tuple[int, tuple[int, ...]]]
    """Images, and how many objects one of them may hold."""
    first_image: int
    """The id of the first image; they count up. An image's id is the seed of its scene."""
    scene: Callable[[int, tuple[int, ...]], Scene]
    """Of a seed and the numbers of objects."""

    @property
    def folder(self) -> str:
        return f"{self.name}-v{self.version}"


POCKET = PocketSet(
    "pocket",
    2,
    "7d2266ad4f652c9cdde2f5c74a95845be5ac4c8720846820fa273e3e3e798c0b",
    # testA holds sparse scenes, testB crowded ones.
    {"train": (300, (3, 4, 5)), "val": (190, (3, 4, 5)), "testA": (60, (3,)), "testB": (60, (5,))},
    100_000,
    sample_scene,
)
SMALL = PocketSet(
    "pocket_small",
    1,
    "b6bd180efb55e8ddaeaf77ce78dd6313d3a74db6b06f83c16ffd79646944b641",
    {"train": (300, (8,)), "val": (120, (8,)), "test": (120, (8,))},
    300_000,
    sample_small_scene,
)
"""Objects half as wide as those that the model was trained on, eight of them: what a second look is measured on."""
POCKET_SETS = {one.name: one for one in (POCKET, SMALL)}
CATEGORIES = [{"supercategory": "shape", "id": i, "name": name} for i, name in enumerate(SHAPES, start=1)]
IMAGES, TABLES = Path("images") / "train2014", Path("pocket")
INSTANCES, REFS, KINDS_FILE = TABLES / "instances.json", TABLES / "refs(unc).p", TABLES / "kinds.json"
MANIFEST = "manifest.json"
_REFS_PER_IMAGE = 3
_SENTENCES_PER_REF = (2, 3)
_DRAWS = 30  # tries to find different ones
_JPEG_QUALITY = 92


def pocket_set(name: str) -> PocketSet:
    """The data set of this name, "" for the first. Raises ConfigError for an unknown one."""
    if name not in ("", *POCKET_SETS):
        raise ConfigError(f"dataset.folder={name} is no pocket data set: use {' or '.join(POCKET_SETS)}.")
    return POCKET_SETS[name or POCKET.name]


def ensure_dataset(cache_dir: Path, which: PocketSet = POCKET) -> Path:
    """Root folder of the data set under `cache_dir`; builds it in seconds where it is absent or damaged."""
    root = Path(cache_dir) / which.folder
    damage = find_damage(root, which) if root.exists() else "absent"
    if damage is None:
        return root
    if root.exists():
        log.warning("The pocket data set in %s is damaged (%s) and is built again.", root, damage)
    try:
        _build_beside(root, which)
    except OSError as error:
        raise StoreError(f"Cannot write the pocket data set to {root}: {error.strerror or error}.") from error
    return root


def find_damage(root: Path, which: PocketSet = POCKET) -> str | None:
    """What is wrong with a built data set, in words; None if nothing is. Every file is hashed: that takes 20 ms.

    So a machine that died while it was built needs no care: what did not reach the disk is found here.
    """
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        if which.digest and manifest["annotations"] != which.digest:
            return "it holds other annotations than this version's"
        hashes = manifest["tables"] | {name: entry["sha256"] for name, entry in manifest["pictures"].items()}
        if hashes.keys() != _names(which):
            return f"{MANIFEST} names other files"
        for name, digest in hashes.items():
            if file_digest(root / name) != digest:
                return f"{name} has changed"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def file_name(image_id: int) -> str:
    """Name of an image's file, as in COCO."""
    return f"COCO_train2014_{image_id:012d}.jpg"


def _names(which: PocketSet) -> set[str]:
    """Of all files that the manifest names, relative to the root."""
    n_images = sum(count for count, _ in which.splits.values())
    images = {str(IMAGES / file_name(which.first_image + i)) for i in range(n_images)}
    return images | {str(name) for name in (INSTANCES, REFS, KINDS_FILE)}


def split_scenes(split: str, which: PocketSet = POCKET) -> list[tuple[int, Scene]]:
    """(image_id, scene) of every image of a split, in the order of the ids. The seed is the image id."""
    start = which.first_image
    for name, (count, objects) in which.splits.items():
        if name == split:
            return [(i, which.scene(i, objects)) for i in range(start, start + count)]
        start += count
    raise DataError(f"The pocket data set has no split {split!r}; it has {', '.join(which.splits)}.")


def _build_beside(root: Path, which: PocketSet) -> None:
    """Builds in a temporary folder beside `root` and renames it; another process may win the race."""
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".pocket-", dir=root.parent))
    try:
        fresh = temporary / "fresh"
        _build(fresh, which)
        if root.exists() and find_damage(root, which) is not None:
            root.rename(temporary / "damaged")
        try:
            fresh.rename(root)
        except OSError:
            if find_damage(root, which) is not None:
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _build(root: Path, which: PocketSet) -> None:
    (root / IMAGES).mkdir(parents=True)
    (root / TABLES).mkdir()
    info = {"description": "LocHeads pocket scenes", "version": str(which.version)}
    instances: dict[str, Any] = {"info": info, "images": [], "annotations": [], "categories": CATEGORIES}
    refs: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    images = {}
    for split in which.splits:
        for image_id, scene in split_scenes(split, which):
            path = root / IMAGES / file_name(image_id)
            Image.fromarray(render(scene)).save(path, quality=_JPEG_QUALITY, subsampling=0)
            images[str(IMAGES / path.name)] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            entry = {"id": image_id, "file_name": path.name, "width": scene.width, "height": scene.height}
            first = len(instances["annotations"]) + 1
            annotations = [_annotation(first + i, image_id, scene, item) for i, item in enumerate(scene.objects)]
            instances["images"].append(entry)
            instances["annotations"] += annotations
            _add_refs(refs, kinds, scene, split, annotations)
    digest = json_digest([instances, refs])  # whatever the encoding of images and pickle
    if which.digest and digest != which.digest:
        raise DataError(f"The pocket data set came out different here: annotation digest {digest[:12]}.")
    write_json(root / INSTANCES, instances)
    write_json(root / KINDS_FILE, kinds)
    write_bytes(root / REFS, pickle.dumps(refs, protocol=2))
    hashes = {str(name): file_digest(root / name) for name in (INSTANCES, REFS, KINDS_FILE)}
    write_json(root / MANIFEST, {"version": which.version, "annotations": digest, "tables": hashes, "pictures": images})


def _annotation(ann_id: int, image_id: int, scene: Scene, item: SceneObject) -> dict[str, Any]:
    """One entry of `annotations`; of six in a row one holds a compressed RLE, one a plain one, four a polygon."""
    mask = item.mask(scene.height, scene.width)
    return {
        "id": ann_id,
        "image_id": image_id,
        "category_id": 1 + SHAPES.index(item.shape),
        "bbox": [float(value) for value in item.box],
        "area": float(mask.sum()),
        "iscrowd": 0,
        "segmentation": _segmentation(ann_id % 6, mask, item),
    }


def _segmentation(which: int, mask: np.ndarray, item: SceneObject) -> list[list[float]] | dict[str, Any]:
    if which not in (0, 3):
        return [[coordinate for point in item.polygon for coordinate in point]]
    if which == 0:
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
    # Runs of 0, 1, 0, ... down the columns; the first may be empty.
    background, *runs = (len(list(run)) for _, run in groupby([False, *mask.ravel(order="F").tolist()]))
    return {"size": list(mask.shape), "counts": [background - 1, *runs]}


def _add_refs(
    refs: list[dict[str, Any]], kinds: dict[str, str], scene: Scene, split: str, annotations: list[dict[str, Any]]
) -> None:
    """Some of the scene's objects with their sentences; the kind of each sentence by its id as text."""
    rng = np.random.default_rng([scene.seed, 4])
    for target in sorted(rng.permutation(len(scene.objects))[:_REFS_PER_IMAGE].tolist()):
        expressions = _expressions(scene, target, rng)
        ids = range(len(kinds) + 1, len(kinds) + 1 + len(expressions))
        kinds |= {str(i): e.kind for i, e in zip(ids, expressions, strict=True)}
        of = annotations[target]
        refs.append({
            "ref_id": len(refs) + 1,
            "ann_id": of["id"],
            "category_id": of["category_id"],
            "image_id": of["image_id"],
            "split": split,
            # as in the real files, this is not the image's name: readers go by image_id
            "file_name": file_name(of["image_id"]).replace(".jpg", f"_{of['id']}.jpg"),
            "sent_ids": list(ids),
            "sentences": [
                {"sent_id": i, "sent": e.text, "raw": e.text, "tokens": e.text.split()}
                for i, e in zip(ids, expressions, strict=True)
            ],
        })  # fmt: skip


def _expressions(scene: Scene, target: int, rng: np.random.Generator) -> list[Expression]:
    """Different ones, two or three; few objects can be told in one way only."""
    found: dict[str, Expression] = {}
    wanted = int(rng.integers(_SENTENCES_PER_REF[0], _SENTENCES_PER_REF[1] + 1))
    for _ in range(_DRAWS):
        if len(found) < wanted:
            expression = sample_expression(scene, target, rng)
            found.setdefault(expression.text.removeprefix("the "), expression)
    return list(found.values())
