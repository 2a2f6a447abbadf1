"""The pocket data set in the files of RefCOCO: JPEG images, COCO `instances.json`, REFER `refs(unc).p`.

testA holds sparse scenes (3 objects), testB crowded ones (5 objects); train and val hold 3 to 5.
"""

import json
import logging
import pickle
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from locheads.errors import DataError, StoreError
from locheads.pocket.language import Expression, sample_expression
from locheads.pocket.render import render
from locheads.pocket.scenes import SHAPES, Scene, SceneObject, sample_scene, sample_small_scene
from locheads.store.atomic import write_bytes, write_json
from locheads.store.digest import file_digest, json_digest

log = logging.getLogger(__name__)

CATEGORIES = [{"supercategory": "shape", "id": i, "name": name} for i, name in enumerate(SHAPES, start=1)]
IMAGES, TABLES = Path("images") / "train2014", Path("pocket")
INSTANCES, REFS, KINDS_FILE = TABLES / "instances.json", TABLES / "refs(unc).p", TABLES / "kinds.json"
MANIFEST = "manifest.json"
_REFS_PER_IMAGE = 3
_SENTENCES_PER_REF = (2, 3)
_DRAWS = 30  # tries to find different ones
_JPEG_QUALITY = 92


Record = dict[str, Any]


@dataclass(frozen=True)
class PocketData:
    """A data set of pocket scenes."""

    name: str
    version: int
    digest: str
    """Of its annotations; "" does not check them."""
    splits: dict[str, tuple[int, tuple[int, ...]]]
    """Number of images, and how many objects they may hold."""
    first_image: int
    refs: Path
    """A pickle, or JSON where it is named so."""
    add_refs: Callable[[list[Record], dict[str, str], Scene, str, list[Record]], None]
    """(refs, kinds, scene, split, the scene's annotations): adds the scene's refs, and the kinds of their sentences."""
    scene: Callable[[int, tuple[int, ...]], Scene] = sample_scene
    """Of a seed and the numbers of objects."""

    @property
    def folder(self) -> str:
        return f"{self.name}-v{self.version}"

    @property
    def files(self) -> set[str]:
        """All that the manifest names, relative to the root."""
        n_images = sum(count for count, _ in self.splits.values())
        images = {str(IMAGES / file_name(self.first_image + i)) for i in range(n_images)}
        return images | {str(name) for name in (INSTANCES, self.refs, KINDS_FILE)}


def ensure_dataset(cache_dir: Path, data: PocketData | None = None) -> Path:
    """Root folder of the data set (None: POCKET) under `cache_dir`; builds it in seconds where it is absent or damaged.

    Raises StoreError where it cannot be written.
    """
    data = data or POCKET
    root = Path(cache_dir) / data.folder
    damage = find_damage(root, data) if root.exists() else "absent"
    if damage is None:
        return root
    if root.exists():
        log.warning("The pocket data set in %s is damaged (%s) and is built again.", root, damage)
    try:
        build_beside(root, lambda fresh: _build(fresh, data), lambda: find_damage(root, data) is None)
    except OSError as error:
        raise StoreError(f"Cannot write the pocket data set to {root}: {error.strerror or error}.") from error
    return root


def find_damage(root: Path, data: PocketData) -> str | None:
    """What is wrong with a built data set, in words; None if nothing is. Every file is hashed: that takes 20 ms.

    So a machine that died while it was built needs no care: what did not reach the disk is found here.
    """
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        if data.digest and manifest["annotations"] != data.digest:
            return "it holds other annotations than this version's"
        hashes = manifest["tables"] | {name: entry["sha256"] for name, entry in manifest["pictures"].items()}
        if hashes.keys() != data.files:
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


def split_scenes(split: str, data: PocketData | None = None) -> list[tuple[int, Scene]]:
    """(image_id, scene) of every image of a split, in the order of the ids. The seed is the image id. None: POCKET."""
    data = data or POCKET
    start = data.first_image
    for name, (count, objects) in data.splits.items():
        if name == split:
            return [(i, data.scene(i, objects)) for i in range(start, start + count)]
        start += count
    raise DataError(f"The pocket data set has no split {split!r}; it has {', '.join(data.splits)}.")


def build_beside(root: Path, build: Callable[[Path], None], whole: Callable[[], bool]) -> None:
    """Builds in a temporary folder beside `root` and renames it; another process may win the race. `whole`: whether
    `root` is what is to be there. Raises OSError where it cannot be written."""
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".pocket-", dir=root.parent))
    try:
        fresh = temporary / "fresh"
        build(fresh)
        if root.exists() and not whole():
            root.rename(temporary / "damaged")
        try:
            fresh.rename(root)
        except OSError:
            if not whole():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _build(root: Path, data: PocketData) -> None:
    (root / IMAGES).mkdir(parents=True)
    (root / TABLES).mkdir()
    info = {"description": "LocHeads pocket scenes", "version": str(data.version)}
    instances: dict[str, Any] = {"info": info, "images": [], "annotations": [], "categories": CATEGORIES}
    refs: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    images = {}
    for split in data.splits:
        for image_id, scene in split_scenes(split, data):
            path = root / IMAGES / file_name(image_id)
            Image.fromarray(render(scene)).save(path, quality=_JPEG_QUALITY, subsampling=0)
            images[str(IMAGES / path.name)] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            entry = {"id": image_id, "file_name": path.name, "width": scene.width, "height": scene.height}
            first = len(instances["annotations"]) + 1
            annotations = [_annotation(first + i, image_id, scene, item) for i, item in enumerate(scene.objects)]
            instances["images"].append(entry)
            instances["annotations"] += annotations
            data.add_refs(refs, kinds, scene, split, annotations)
    digest = json_digest([instances, refs])  # whatever the encoding of images and pickle
    if data.digest and digest != data.digest:
        raise DataError(f"The pocket data set came out different here: annotation digest {digest[:12]}.")
    write_json(root / INSTANCES, instances)
    write_json(root / KINDS_FILE, kinds)
    if data.refs.suffix == ".json":
        write_json(root / data.refs, refs)
    else:
        write_bytes(root / data.refs, pickle.dumps(refs, protocol=2))
    hashes = {str(name): file_digest(root / name) for name in (INSTANCES, data.refs, KINDS_FILE)}
    write_json(root / MANIFEST, {"version": data.version, "annotations": digest, "tables": hashes, "pictures": images})


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


def _add_refs(refs: list[Record], kinds: dict[str, str], scene: Scene, split: str, annotations: list[Record]) -> None:
    """Some of the scene's objects with their sentences; the kind of each sentence by its id as text."""
    rng = np.random.default_rng([scene.seed, 4])
    for target in sorted(rng.permutation(len(scene.objects))[:_REFS_PER_IMAGE].tolist()):
        add_ref(refs, kinds, annotations[target], split, _expressions(scene, target, rng))


def add_ref(
    refs: list[Record], kinds: dict[str, str], annotation: Record, split: str, expressions: Sequence[Expression]
) -> None:
    """Adds a ref of one object, and the kinds of its sentences by their ids, which count on, as text."""
    ids = range(len(kinds) + 1, len(kinds) + 1 + len(expressions))
    kinds |= {str(i): e.kind for i, e in zip(ids, expressions, strict=True)}
    about = {"ann_id": annotation["id"], "category_id": annotation["category_id"], "image_id": annotation["image_id"]}
    # As in the real files, this is not the image's name: readers go by image_id.
    name = file_name(annotation["image_id"]).replace(".jpg", f"_{annotation['id']}.jpg")
    texts = {i: e.text for i, e in zip(ids, expressions, strict=True)}
    refs.append(ref_record(len(refs) + 1, about, split, name, texts))


def ref_record(ref_id: int, about: Record, split: str, name: str, texts: dict[int, str]) -> Record:
    """A ref as REFER's files hold it. `texts`: its expressions by the ids of their sentences."""
    sentences = [{"sent_id": i, "sent": text, "raw": text, "tokens": text.split()} for i, text in texts.items()]
    return {
        "ref_id": ref_id,
        **about,
        "split": split,
        "file_name": name,
        "sent_ids": list(texts),
        "sentences": sentences,
    }


def _expressions(scene: Scene, target: int, rng: np.random.Generator) -> list[Expression]:
    """Different ones, two or three; few objects can be told in one way only."""
    found: dict[str, Expression] = {}
    wanted = int(rng.integers(_SENTENCES_PER_REF[0], _SENTENCES_PER_REF[1] + 1))
    for _ in range(_DRAWS):
        if len(found) < wanted:
            expression = sample_expression(scene, target, rng)
            found.setdefault(expression.text.removeprefix("the "), expression)
    return list(found.values())


POCKET = PocketData(
    name="pocket",
    version=2,
    digest="7d2266ad4f652c9cdde2f5c74a95845be5ac4c8720846820fa273e3e3e798c0b",
    splits={"train": (300, (3, 4, 5)), "val": (190, (3, 4, 5)), "testA": (60, (3,)), "testB": (60, (5,))},
    first_image=100_000,
    refs=REFS,
    add_refs=_add_refs,
)
"""Expressions that fit one object each."""
SMALL = PocketData(
    name="pocket_small",
    version=1,
    digest="b6bd180efb55e8ddaeaf77ce78dd6313d3a74db6b06f83c16ffd79646944b641",
    splits={"train": (300, (8,)), "val": (120, (8,)), "test": (120, (8,))},
    first_image=300_000,
    refs=REFS,
    add_refs=_add_refs,
    scene=sample_small_scene,
)
"""Objects half as wide as those that the model was trained on, eight of them: what a second look is measured on."""
