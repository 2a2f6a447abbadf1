"""AGD20K's layout on pocket scenes: the truth of an affordance is a Gaussian on a part of the object."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from locheads.data.agd20k import Agd20kDataSet
from locheads.data.config import DatasetConfig
from locheads.pocket.dataset import split_scenes
from locheads.pocket.render import render

CONF = Path(__file__).parents[3] / "conf" / "dataset" / "agd20k.yaml"
PARTS = {"hold": 0.25, "cut_with": 0.75}
"""Affordance -> how far down the object its middle lies, as a share of the object's height."""


def write_affordances(root: Path, n_images: int, folder: str = "Seen") -> Path:
    """Scenes with one object of their first object's shape as OBJECT: where it is held, of every other also where it
    cuts. -> the folder for dataset.folder."""
    for number, (_, scene) in enumerate(split_scenes("val")[:n_images]):
        item, image = scene.objects[0], Image.fromarray(render(scene))
        for affordance, share in list(PARTS.items())[: 1 + number % 2]:
            x, y, width, height = item.box
            truth = gaussian((scene.width, scene.height), (x + width / 2, y + share * height), min(width, height) / 4)
            write_affordance(root, (folder, affordance, item.shape, f"{item.shape}_{number:06d}"), image, truth)
    return root


def gaussian(size: tuple[int, int], at: tuple[float, float], sigma: float) -> np.ndarray:
    """[height, width] of 8 bits."""
    across, down = np.arange(size[0]) + 0.5 - at[0], np.arange(size[1]) + 0.5 - at[1]
    return np.rint(255 * np.exp(-(across**2 + down[:, None] ** 2) / (2 * sigma**2))).astype(np.uint8)


def write_affordance(root: Path, names: tuple[str, str, str, str], image: Image.Image, truth: np.ndarray) -> None:
    """`names`: Seen or Unseen, affordance, object, name."""
    folder, affordance, thing, name = names
    for what, content, ending in (("egocentric", image, "jpg"), ("GT", Image.fromarray(truth), "png")):
        path = root / folder / "testset" / what / affordance / thing / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        content.save(path)


def agd20k(folder: Path, **changes: Any) -> Agd20kDataSet:
    """The reader of dataset=agd20k."""
    declared = yaml.safe_load(CONF.read_text())
    settings = {key: declared[key] for key in ("template", "phrases")} | changes
    return Agd20kDataSet(DatasetConfig(folder=str(folder), **settings), folder / "cache")
