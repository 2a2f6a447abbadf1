"""A run folder's explorer records, written by hand: three kinds of geometry, maps with several components."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from locheads.geometry import Geometry, Preprocess, square_geometry, stretched
from locheads.pipeline.write_explorer import encode
from locheads.records.explorer_file import MAPS, ExplorerFile, image_name

LAYERS, HEADS = 6, 8
"""As in the report's synthetic run."""
LOCALIZATION, BEST_REC, BEST_IOU = ["L3H1", "L4H6", "L2H5"], ["L3H1", "L4H6"], ["L3H1", "L5H7"]
IMG = "<img src=x onerror=\"document.title='owned'\">"
SCRIPT = "</script><script>document.title='owned'</script><!--"
EXPRESSIONS = ("the red circle", IMG, SCRIPT, 'R&D "it\'s" \u2028 日本', "the square at the edge", "the last one")
GEOMETRIES = (
    square_geometry(200, 120, 112, 8, Preprocess.pad),
    square_geometry(200, 120, 112, 8, Preprocess.center_crop),
    stretched(150, 180, 9, 6),
)


def build_explorer(folder: Path, n_samples: int = 6, n_heads: int = LAYERS * HEADS) -> Path:
    """Adds the records of `n_samples` samples with the maps of `n_heads` heads to a run folder."""
    (folder / MAPS).parent.mkdir(parents=True, exist_ok=True)
    samples, at = [], 0
    with (folder / MAPS).open("wb") as file:
        for number in range(n_samples):
            sample, codes = _sample(number, n_heads, at)
            _image(folder / image_name(number), sample)
            file.write(codes)
            at += len(codes)
            samples.append(sample)
    (folder / ExplorerFile.FILE).write_text(json.dumps(_index() | {"samples": samples}))
    return folder


def geometry_of(sample: dict[str, Any]) -> Geometry:
    return Geometry.from_dict({key: sample[key] for key in ("width", "height", "rows", "cols", "scale", "offset")})


def names() -> list[str]:
    """All heads, the localization heads and the best by IoU first."""
    every = [f"L{layer}H{head}" for layer in range(LAYERS) for head in range(HEADS)]
    return list(dict.fromkeys([*LOCALIZATION, *BEST_IOU, *every]))


def _index() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    entropy: list[list[float | None]] = rng.uniform(0.2, 3, (LAYERS, HEADS)).tolist()
    entropy[0][0] = None
    return {
        "version": 1,
        "n_split": 400,
        "layers": LAYERS,
        "heads_per_layer": HEADS,
        "localization": LOCALIZATION,
        "best_rec": BEST_REC,
        "best_iou": BEST_IOU,
        "grounding": {"name": "paper", "kernel": 7, "sigma": 1.0, "border": "mirror"},
        "entropy": entropy,
    }


def _sample(number: int, n_heads: int, at: int) -> tuple[dict[str, Any], bytes]:
    geometry = GEOMETRIES[number % len(GEOMETRIES)]
    rng = np.random.default_rng(number)
    # Heavy tails, as attention has them: components of a few cells, some of them at the border.
    maps = rng.gamma(0.3, 0.01, (n_heads, geometry.rows, geometry.cols))
    codes, scales = encode(maps)
    sample = {
        "sample_id": f"s{number}",
        "image_id": f"{1000 + number}",
        "expression": EXPRESSIONS[number % len(EXPRESSIONS)],
        "picture": number,
        "width": geometry.width,
        "height": geometry.height,
        "rows": geometry.rows,
        "cols": geometry.cols,
        "scale": list(geometry.scale),
        "offset": list(geometry.offset),
        "true_box": [40, 30, 100, 90],
        "box": [30, 30, 100, 100],
        "iou": 0.612,
        "error": None,
        "own": LOCALIZATION,
        "heads": names()[:n_heads],
        "scales": scales,
        "at": at,
        "same_box": number != 0,
    }
    return sample, codes.tobytes()


def _image(path: Path, sample: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    image = Image.new("RGB", (sample["width"], sample["height"]), (90, 110, 130))
    ImageDraw.Draw(image).ellipse(sample["true_box"], fill=(200, 60 + 20 * (int(sample["image_id"]) % 10), 40))
    content = io.BytesIO()
    image.save(content, "WEBP", quality=75)
    path.write_bytes(content.getvalue())
