"""Captions of the pocket scenes in the files of Panoptic Narrative Grounding and of Flickr30k Entities.

A caption names the picture (its ground is stuff), then every object by words that fit it alone, then, where two or more
have one shape, these together: a phrase of several objects. The images are those of the pocket data set.
"""

import json
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from locheads.errors import StoreError
from locheads.pocket.dataset import IMAGES, build_beside, ensure_dataset, file_name, split_scenes
from locheads.pocket.language import matching, telling_phrase
from locheads.pocket.scenes import SHAPES, Scene

VERSION = 1
N_IMAGES = {"train": 60, "val": 40}
PNG, FLICKR = "png", "flickr30k_entities"
GROUND = 70_000
"""Id of the segment that no object covers."""
_CATEGORIES = [{"id": i, "name": name, "isthing": 1} for i, name in enumerate(SHAPES, start=1)]
_STUFF = {"id": len(SHAPES) + 1, "name": "ground", "isthing": 0}


class Part(NamedTuple):
    """A part of a caption."""

    text: str
    objects: tuple[int, ...] = ()
    """Indices of the scene's objects that it names."""
    ground: bool = False


def ensure_captions(cache: Path) -> tuple[Path, Path]:
    """-> (folder with a folder of either form, folder with the images). Made at first use.

    Raises StoreError where it cannot be written.
    """
    images, root = ensure_dataset(cache) / IMAGES, cache / f"pocket-captions-v{VERSION}"
    if not root.is_dir():
        try:
            build_beside(root, _build, root.is_dir)
        except OSError as error:
            raise StoreError(f"Cannot write the pocket captions to {root}: {error.strerror or error}.") from error
    return root, images


def caption(scene: Scene) -> list[Part]:
    """What is said of the scene; the texts joined are the caption."""
    rng = np.random.default_rng([scene.seed, 6])
    named = [Part(telling_phrase(scene, i, rng), (i,)) for i in range(len(scene.objects))]
    alike = [tuple(matching(scene, item, ("shape",))) for item in scene.objects]
    several = [Part(f"the {scene.objects[own[0]].shape}s", own) for own in dict.fromkeys(alike) if len(own) > 1]
    listed = chain.from_iterable((Part(" , "), part) for part in [*named, *several])
    return [Part("this picture", ground=True), Part(" , where there are"), *listed, Part(" .")]


def _build(root: Path) -> None:
    for split, count in N_IMAGES.items():
        scenes = split_scenes(split)[:count]
        _write_png(root / PNG, split, scenes)
        _write_flickr(root / FLICKR, split, scenes)


def _write_png(folder: Path, split: str, scenes: list[tuple[int, Scene]]) -> None:
    pictures = folder / "panoptic_segmentation" / f"{split}2017"
    pictures.mkdir(parents=True)
    narratives: list[dict[str, Any]] = []
    panoptic: dict[str, Any] = {"images": [], "annotations": [], "categories": [*_CATEGORIES, _STUFF]}
    for number, scene in scenes:
        ids = np.full((scene.height, scene.width), GROUND)
        for i, item in enumerate(scene.objects):
            ids[item.mask(scene.height, scene.width)] = _segment_id(i)
        Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)).save(
            pictures / f"{number:012d}.png"
        )
        of_category = {GROUND: _STUFF["id"]} | {
            _segment_id(i): 1 + SHAPES.index(o.shape) for i, o in enumerate(scene.objects)
        }
        segments = [{"id": i, "category_id": of, "area": int((ids == i).sum())} for i, of in of_category.items()]
        size = {"width": scene.width, "height": scene.height}
        panoptic["images"].append({"id": number, "file_name": file_name(number)} | size)
        annotation = {"image_id": number, "file_name": f"{number:012d}.png", "segments_info": segments}
        panoptic["annotations"].append(annotation)
        narratives.append(_narrative(number, caption(scene)))
    for name, content in (("png_coco", narratives), ("panoptic", panoptic)):
        (folder / f"{name}_{split}2017.json").write_text(json.dumps(content))


def _segment_id(i: int) -> int:
    return 1_000 * (i + 1)


def _narrative(number: int, parts: list[Part]) -> dict[str, Any]:
    def segment(part: Part) -> dict[str, Any]:
        ids = [str(GROUND)] * part.ground + [str(_segment_id(i)) for i in part.objects]
        return {"utterance": part.text, "segment_ids": ids, "noun": bool(ids), "plural": len(ids) > 1}

    text = "".join(part.text for part in parts)
    return {"image_id": f"{number:012d}", "caption": text, "segments": [segment(part) for part in parts]}


def _write_flickr(folder: Path, split: str, scenes: list[tuple[int, Scene]]) -> None:
    for name in ("Sentences", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = [Path(file_name(number)).stem for number, _ in scenes]
    (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
    for name, (_, scene) in zip(names, scenes, strict=True):
        parts = caption(scene)
        (folder / "Sentences" / f"{name}.txt").write_text(
            "".join(_marked(part, i, scene) for i, part in enumerate(parts)) + "\n"
        )
        (folder / "Annotations" / f"{name}.xml").write_text(_voc(scene, parts))


def _marked(part: Part, entity: int, scene: Scene) -> str:
    if not (part.objects or part.ground):
        return part.text
    return f"[/EN#{entity + 1}/{'scene' if part.ground else scene.objects[part.objects[0]].shape} {part.text}]"


def _voc(scene: Scene, parts: list[Part]) -> str:
    """Corners count from 1, both included."""
    lines = [f"<size><width>{scene.width}</width><height>{scene.height}</height><depth>3</depth></size>"]
    for entity, part in enumerate(parts, start=1):
        if part.ground:
            lines.append(f"<object><name>{entity}</name><scene>1</scene><nobndbox>0</nobndbox></object>")
        for x, y, width, height in (scene.objects[i].box for i in part.objects):
            corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
            box = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
            lines.append(f"<object><name>{entity}</name><bndbox>{box}</bndbox></object>")
    return "<annotation>" + "\n".join(lines) + "</annotation>\n"
