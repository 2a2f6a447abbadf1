"""A REFER data set of 14 small images and a LLaVA with random weights, in the files that real users have."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from locheads.discovery.headset import SCHEMA
from locheads.pocket.pocket_model import build_processor
from locheads.pocket.tokenizer import BOS, EOS, IMAGE, PAD, vocabulary
from locheads.types import HeadIndex

LAYERS, HEADS, HIDDEN, SIDE, PATCH = 5, 4, 32, 48, 8
SPLITS = {"train": range(100, 108), "val": range(200, 206)}
EXPRESSIONS = (
    ("the red square on the left", "red square"),
    ("the larger blue square", "blue object on the right", "the square on the right ."),
)
COLOURS = ((200, 40, 40), (40, 60, 200))


def write_refer(root: Path) -> tuple[Path, Path]:
    """-> (folder with the tables, folder with the images). Every image has two refs, five expressions."""
    folder, images = root / "tiny", root / "images"
    folder.mkdir(parents=True)
    images.mkdir()
    instances: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"supercategory": "shape", "id": 1, "name": "square"}],
    }
    refs: list[dict[str, Any]] = []
    for split, ids in SPLITS.items():
        for image_id in ids:
            _add_image(instances, refs, images, split, image_id)
    (folder / "instances.json").write_text(json.dumps(instances))
    write_refs(folder, refs)
    return folder, images


def name_two_categories(folder: Path) -> None:
    """In every other image "object" stands for "square": expressions can be moved to images without what they name."""
    content = json.loads((folder / "instances.json").read_text())
    content["categories"].append({"supercategory": "shape", "id": 2, "name": "object"})
    for annotation in content["annotations"]:
        annotation["category_id"] = 1 + annotation["image_id"] % 2
    (folder / "instances.json").write_text(json.dumps(content))


def write_refs(folder: Path, refs: list[dict[str, Any]]) -> None:
    """The refs file, as Python 2 wrote the published ones."""
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


def read_refs(folder: Path) -> list[dict[str, Any]]:
    """Our own file, so an unrestricted load is safe."""
    return pickle.loads((folder / "refs(unc).p").read_bytes())


def write_review(folder: Path, root: Path, faulty: str) -> str:
    """A review of val as Ref-L4's, for dataset.review: expressions with the word `faulty` are."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for ref in (ref for ref in read_refs(folder) if ref["split"] == "val"):
        for sentence in ref["sentences"]:
            caption, number = sentence["sent"], len(images)
            images.append({"id": number, "original_id": ref["image_id"], "caption": caption})
            quality = {"caption_quality": int(faulty not in caption)}
            annotations.append({"id": number, "image_id": number, "original_id": ref["ann_id"]} | quality)
    (root / "tiny_val_reviewed.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return f"dataset.review='{root}/tiny_{{split}}_reviewed.json'"


def write_checkpoint(folder: Path, layers: int = LAYERS) -> Path:
    """A stock LLaVA of random weights, with the pocket's words, as `save_pretrained` writes it."""
    torch.manual_seed(3)
    words = vocabulary()
    shared = {"hidden_size": HIDDEN, "intermediate_size": 64, "num_attention_heads": HEADS, "initializer_range": 0.25}
    vision = CLIPVisionConfig(num_hidden_layers=1, image_size=SIDE, patch_size=PATCH, projection_dim=HIDDEN, **shared)
    text = LlamaConfig(
        vocab_size=len(words), num_hidden_layers=layers, num_key_value_heads=HEADS, max_position_embeddings=256,
        bos_token_id=words.index(BOS), eos_token_id=words.index(EOS), pad_token_id=words.index(PAD), **shared,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=words.index(IMAGE), vision_feature_layer=-1,
        vision_feature_select_strategy="default", image_seq_length=(SIDE // PATCH) ** 2,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


def headset(heads: Sequence[HeadIndex], shape: tuple[int, int] = (LAYERS, HEADS), **more: Any) -> str:
    """The heads.json of these heads, as text."""
    listed = [{"layer": head.layer, "head": head.head} for head in heads]
    layers, per_layer = shape
    return json.dumps({"schema": SCHEMA, "heads": listed, "layers": layers, "heads_per_layer": per_layer} | more)


def write_headset(path: Path, heads: Sequence[HeadIndex]) -> Path:
    """As a file."""
    path.write_text(headset(heads))
    return path


def _add_image(instances: dict, refs: list, images: Path, split: str, image_id: int) -> None:
    # Landscape, portrait and square in turn.
    width, height = ((64, 48), (40, 60), (48, 48))[image_id % 3]
    rng = np.random.default_rng(image_id)
    pixels = rng.integers(90, 160, (height, width, 3), dtype=np.uint8)
    name = f"COCO_train2014_{image_id:012d}.jpg"
    instances["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
    for which, colour in enumerate(COLOURS):
        side = int(rng.integers(10, 18))
        x = int(rng.integers(0, width // 2 - side + 1)) + which * (width // 2)
        y = int(rng.integers(0, height - side))
        pixels[y : y + side, x : x + side] = colour
        annotation = _annotation(image_id * 10 + which, image_id, (width, height), (x, y, side))
        instances["annotations"].append(annotation)
        refs.append(_ref(annotation, split, which))
    Image.fromarray(pixels).save(images / name, quality=92)


def _annotation(ann_id: int, image_id: int, size: tuple[int, int], square: tuple[int, int, int]) -> dict[str, Any]:
    """Polygons, compressed and plain run-length code in turn."""
    (width, height), (x, y, side) = size, square
    mask = np.zeros((height, width), dtype=np.uint8, order="F")
    mask[y : y + side, x : x + side] = 1
    code = coco.encode(mask)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], mask.ravel(order="F"), [2]]))))
    kinds: tuple[Any, ...] = (
        [[x, y, x + side, y, x + side, y + side, x, y + side]],
        {"size": [height, width], "counts": code["counts"].decode("ascii")},
        {"size": [height, width], "counts": ([] if mask[0, 0] == 0 else [0]) + runs.tolist()},
    )
    return {
        "id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x, y, side, side],
        "area": float(side * side),
        "iscrowd": 0,
        "segmentation": kinds[(ann_id // 10 + ann_id) % 3],
    }


def _ref(annotation: dict[str, Any], split: str, which: int) -> dict[str, Any]:
    ids = [annotation["id"] * 10 + i for i in range(len(EXPRESSIONS[which]))]
    return {
        "ref_id": annotation["id"],
        "ann_id": annotation["id"],
        "category_id": 1,
        "image_id": annotation["image_id"],
        "split": split,
        "file_name": "wrong, as in the published files.jpg",
        "sent_ids": ids,
        "sentences": [
            {"sent_id": i, "sent": text, "raw": text, "tokens": text.split()}
            for i, text in zip(ids, EXPRESSIONS[which], strict=True)
        ],
    }
