"""Pocket scenes in the files of further tasks: AGD20K's heat maps and ScreenSpot-v2's screens, nothing to download.

`python -m locheads.pocket.task_files FOLDER` writes them; `paths.data=FOLDER` reads them. The truth of an affordance is
a Gaussian on a part of the object: held at its upper quarter, cut with at its lower one. The elements of a screen are
the scene's objects: text in the upper third, else icons.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from locheads.pocket.dataset import split_scenes
from locheads.pocket.render import render
from locheads.pocket.scenes import Scene

PARTS = {"hold": 0.25, "cut_with": 0.75}
"""Affordance -> how far down the object its middle lies, as a share of the object's height."""
N_IMAGES = 12
"""Of each data set."""


def write_affordances(root: Path, n_images: int, folder: str = "Seen", first: int = 0) -> Path:
    """Scenes of val as AGD20K's `folder`, named by the shape of their first object: where it is held, of every other
    scene also where it cuts. -> root."""
    for number, (_, scene) in enumerate(split_scenes("val")[first : first + n_images], first):
        item, image = scene.objects[0], Image.fromarray(render(scene))
        x, y, width, height = item.box
        for affordance, share in list(PARTS.items())[: 1 + number % 2]:
            truth = gaussian((scene.width, scene.height), (x + width / 2, y + share * height), min(width, height) / 4)
            write_affordance(root, (folder, affordance, item.shape, f"{item.shape}_{number:06d}"), image, truth)
    return root


def gaussian(size: tuple[int, int], at: tuple[float, float], sigma: float) -> UInt8[np.ndarray, "height width"]:
    """Of 255 at the point `at` (x, y); `size`: (width, height)."""
    across, down = np.arange(size[0]) + 0.5 - at[0], np.arange(size[1]) + 0.5 - at[1]
    return np.rint(255 * np.exp(-(across**2 + down[:, None] ** 2) / (2 * sigma**2))).astype(np.uint8)


def write_affordance(root: Path, names: tuple[str, str, str, str], image: Image.Image, truth: np.ndarray) -> None:
    """`names`: Seen or Unseen, affordance, object, name."""
    folder, affordance, thing, name = names
    for what, content, ending in (("egocentric", image, "jpg"), ("GT", Image.fromarray(truth), "png")):
        path = root / folder / "testset" / what / affordance / thing / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        content.save(path)


def write_screens(root: Path, n_images: int) -> Path:
    """Scenes of val as ScreenSpot-v2, by turns of phones and of the web. -> root."""
    files: dict[str, list[dict[str, Any]]] = {"mobile": [], "web": []}
    (root / "screenspotv2_image").mkdir(parents=True, exist_ok=True)
    for number, (_, scene) in enumerate(split_scenes("val")[:n_images]):
        name = f"screen_{number}.png"
        Image.fromarray(render(scene)).save(root / "screenspotv2_image" / name)
        files[("mobile", "web")[number % 2]] += _elements(name, scene)
    for platform, records in files.items():
        (root / f"screenspot_{platform}_v2.json").write_text(json.dumps(records))
    return root


def _elements(name: str, scene: Scene) -> list[dict[str, Any]]:
    return [
        {
            "img_filename": name,
            "bbox": [round(value) for value in item.box],
            "instruction": f"the {item.shape}",
            "data_type": "text" if item.box[1] < scene.height / 3 else "icon",
            "data_source": "pocket",
        }
        for item in scene.objects
    ]


def write_all(root: Path) -> None:
    """What dataset=agd20k and dataset=screenspot_v2 read of paths.data=ROOT."""
    write_affordances(root / "AGD20K", N_IMAGES)
    write_affordances(root / "AGD20K", N_IMAGES, "Unseen", first=N_IMAGES)
    write_screens(root / "screenspot_v2", N_IMAGES)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m locheads.pocket.task_files FOLDER")
    write_all(Path(sys.argv[1]))
