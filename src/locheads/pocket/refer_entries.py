"""Entries of `instances.json` and `refs(unc).p` for one scene: plain dicts, lists, numbers and strings only."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from locheads.pocket.language import Expression, sample_expression
from locheads.pocket.scenes import SHAPES, Scene, SceneObject

CATEGORIES = [{"supercategory": "shape", "id": i, "name": name} for i, name in enumerate(SHAPES, start=1)]
_SENTENCES_PER_REF = (2, 3)
_DRAWS = 30  # tries to find different ones


def file_name(image_id: int) -> str:
    """Name of an image's file, as in COCO."""
    return f"COCO_train2014_{image_id:012d}.jpg"


def image_entry(image_id: int, scene: Scene) -> dict[str, Any]:
    """One entry of `images`."""
    return {"id": image_id, "file_name": file_name(image_id), "width": scene.width, "height": scene.height}


def annotation(ann_id: int, image_id: int, scene: Scene, item: SceneObject) -> dict[str, Any]:
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
    if which == 0:
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
    if which == 3:
        return {"size": list(mask.shape), "counts": _run_lengths(mask)}
    return [[coordinate for point in item.polygon for coordinate in point]]


def _run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of 0, 1, 0, ... down the columns, as COCO counts them."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(n) for n in np.diff(np.concatenate([[0], ends]))]


def caption_object(
    scene: Scene, target: int, rng: np.random.Generator, *, ref_id: int, first_sentence: int, split: str,
    annotation: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, str]]:  # fmt: skip
    """One ref with its sentences, and the kind of each sentence by its id as text."""
    expressions: dict[str, Expression] = {}
    wanted = int(rng.integers(_SENTENCES_PER_REF[0], _SENTENCES_PER_REF[1] + 1))
    for _ in range(_DRAWS):  # few objects can be told in one way only
        if len(expressions) < wanted:
            expression = sample_expression(scene, target, rng)
            expressions.setdefault(expression.text.removeprefix("the "), expression)
    ids = range(first_sentence, first_sentence + len(expressions))
    image_id = annotation["image_id"]
    ref = {
        "ref_id": ref_id,
        "ann_id": annotation["id"],
        "category_id": annotation["category_id"],
        "image_id": image_id,
        "split": split,
        # as in the real files, this is not the image's name: readers go by image_id
        "file_name": file_name(image_id).replace(".jpg", f"_{annotation['id']}.jpg"),
        "sent_ids": list(ids),
        "sentences": [
            {"sent_id": i, "sent": e.text, "raw": e.text, "tokens": e.text.split()}
            for i, e in zip(ids, expressions.values(), strict=True)
        ],
    }
    return ref, {str(i): e.kind for i, e in zip(ids, expressions.values(), strict=True)}
