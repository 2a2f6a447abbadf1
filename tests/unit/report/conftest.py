"""A synthetic run folder: 6 layers x 8 heads with L3H1, L4H6, L2H5 planted, and numbers to look up."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

LAYERS, HEADS = 6, 8
CHOSEN = ((3, 1), (4, 6), (2, 5))
ODD_EXPRESSION = """<script>alert(1)</script> "it's" R&D $\\frac{1}{$"""

# value, low, high of the first metric, in the order of metrics.METRICS
VALUES = {
    "localization_heads": (0.532, 0.501, 0.560),
    "best_iou_heads": (0.571, 0.540, 0.602),
    "mean_of_all_heads": (0.312, 0.280, 0.345),
    "random_heads": (0.205, 0.181, 0.231),
    "centre_box": (0.098, 0.074, 0.121),
}
METRICS = (
    *("rec_acc@0.5", "rec_acc@0.25", "rec_acc@0.75", "rec_mean_iou", "res_ciou", "res_miou"),
    *("pointing", "pointing_swapped", "pointing_chance"),
)


def make_metrics(values: dict[str, tuple[float, float, float]] = VALUES) -> dict[str, Any]:
    """metrics.json; metric number i of a method is its value plus i thousandths."""
    methods = {
        method: {
            metric: dict(zip(("value", "low", "high"), (round(v + i / 1000, 3) for v in triple), strict=True))
            for i, metric in enumerate(METRICS)
            if method != "centre_box" or not metric.startswith("pointing")
        }
        for method, triple in values.items()
    }
    points = [
        {"layer": 3, "head": 1, "frequency": 0.62, "iou": 0.48},
        {"layer": 4, "head": 6, "frequency": 0.55, "iou": 0.44},
        {"layer": 2, "head": 5, "frequency": 0.41, "iou": 0.37},
        {"layer": 5, "head": 0, "frequency": 0.12, "iou": 0.21},
        {"layer": 5, "head": 3, "frequency": 0.05, "iou": 0.25},
        {"layer": 2, "head": 2, "frequency": 0.004, "iou": 0.91},
    ]
    return {
        "split": "val",
        "n_expressions": 400,
        "n_images": 120,
        "n_failed": 2,
        "n_empty": 5,
        "confidence": 0.95,
        "methods": methods,
        "heads": ["L3H1", "L4H6", "L2H5"],
        "best_iou_heads": ["L3H1", "L5H7", "L4H6"],
        "figure6": {"spearman": 0.812, "p_value": 0.0123, "n_heads": 5, "points": points},
    }


def make_heads() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    sums = np.sort(rng.beta(1.2, 9, (LAYERS, HEADS)).ravel()).reshape(LAYERS, HEADS)
    frequency = np.where(np.arange(LAYERS)[:, None] < 2, 0, rng.beta(0.5, 9, (LAYERS, HEADS)))
    for rank, at in enumerate(CHOSEN):
        sums[at], frequency[at] = 0.55 - 0.03 * rank, (0.62, 0.55, 0.41)[rank]
    return {
        "heads": [
            {"layer": a, "head": b, "frequency_mean": frequency[a, b], "frequency_std": 0.021} for a, b in CHOSEN
        ],
        "k": 3,
        "selection": "fixed",
        "criterion": {"name": "paper", "score": "s_img_entropy", "skip_layers": 2, "candidates": 10},
        "tau": 0.1875,
        "tau_per_trial": [0.18, 0.195],
        "n_samples": 200,
        "trials": 2,
        "n_failed": 1,
        "layers": LAYERS,
        "heads_per_layer": HEADS,
        "mean_attention_sum": sums.tolist(),
        "frequency_mean": frequency.tolist(),
        "frequency_std": np.full((LAYERS, HEADS), 0.021).tolist(),
        "eligible": ((sums >= 0.1875) & (np.arange(LAYERS)[:, None] >= 2)).tolist(),
        "head_iou": np.full((LAYERS, HEADS), 0.375).tolist(),
        "digest": "0123abcd",
    }


CONFIG = {
    "study": "default",
    "seed": 0,
    "stage": "report",
    "model": {"name": "pocket", "id": "pocket", "preprocess": "pad"},
    "dataset": {"name": "pocket", "split": "val", "discovery_split": "train"},
    "prompt": {"name": "referseg", "template": "<image>\n{expression}"},
    "criterion": {"name": "paper", "skip_layers": 2},
    "selection": {"kind": "fixed"},
    "heads": {"k": 3},
    "discovery": {"n_samples": 200, "trials": 2},
    "evaluation": {"random_draws": 10},
}
PROVENANCE = {
    "commit": "f00dfacecafe0123456789",
    "dirty": True,
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "hardware": {"cpu": "2 cores", "gpu": None},
    "argv": ["run.py", "prompt.template=a b"],
    "started": "2026-11-22T17:00:00Z",
    "seconds": 93.25,
    "digest": "feedbeef",
}
STATUS = {
    "state": "done",
    "stages": {"attend": {"state": "done", "seconds": 61.5}, "discover": {"state": "done", "seconds": 2.25}},
    "error": None,
}


def draw_sample(folder: Path, number: int) -> tuple[dict[str, Any], np.ndarray]:
    """Writes one image, 320 x 200 and padded to a square by the model; its object is in the maps."""
    rng = np.random.default_rng(number)
    width, height, cells = 320, 200, 16
    pixels = rng.normal(128, 18, (height, width, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    x, y = int(rng.integers(10, 240)), int(rng.integers(10, 130))
    true_box = [x, y, x + 60, y + 50]
    ImageDraw.Draw(image).ellipse(true_box, fill=tuple(map(int, rng.integers(0, 255, 3))))
    name = f"gallery/{number}.jpg"
    (folder / "gallery").mkdir(exist_ok=True)
    image.save(folder / name, quality=92)
    # The square that the model saw: 320 x 320, the image in its middle.
    cell_box = [0, -60, 320, 260]
    rows, cols = np.mgrid[:cells, :cells]
    dx, dy = (cols + 0.5) * 20 - (x + 30), (rows + 0.5) * 20 - 60 - (y + 25)
    blob = np.exp(-(dx**2 + dy**2) / 1800)
    heads = [0.01 * blob + rng.random((cells, cells)) * 0.004 * (i + 1) for i in range(3)]
    maps = np.stack([np.sum(heads, axis=0), *heads]).astype(np.float32)
    item = {
        "sample_id": f"s{number}",
        "image_id": f"{1000 + number}",
        "expression": f"the round thing number {number}.",
        "picture": name,
        "box": [x - 8, y + 6, x + 55, y + 57],
        "true_box": true_box,
        "iou": 0.637 if number % 3 else 0.312,
        "heads": ["L3H1", "L4H6", "L2H5"],
        "width": width,
        "height": height,
        "error": None,
        "grid": [cells, cells],
        "cell_box": cell_box,
    }
    return item, maps


def build_run(folder: Path, n_gallery: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [draw_sample(folder, number) for number in range(n_gallery)]
    items = [item for item, _ in drawn]
    if n_gallery >= 3:
        items[1]["expression"] = ODD_EXPRESSION
        items[2].update(box=None, iou=0.0, error="the image is <b>corrupt</b>")
    np.savez(folder / "gallery.npz", **{item["sample_id"]: maps for item, maps in drawn})
    write_json(folder / "gallery.json", items)
    write_json(folder / "heads.json", make_heads())
    write_json(folder / "metrics.json", make_metrics())
    write_json(folder / "provenance.json", PROVENANCE)
    write_json(folder / "status.json", STATUS)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return folder


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("template") / "run")


@pytest.fixture
def run_folder(template: Path, tmp_path: Path) -> Path:
    """A complete run with three samples, the test's own."""
    return Path(shutil.copytree(template, tmp_path / "run"))


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """edit_json(path, key=value, ...): replaces top-level keys of a JSON file."""

    def edit(path: Path, **changes: Any) -> None:
        write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})

    return edit


@pytest.fixture
def metrics_json() -> Callable[..., dict[str, Any]]:
    return make_metrics


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    return build_run
