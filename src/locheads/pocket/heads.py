"""What the heads' maps are worth against the truth, and what the paper's criteria choose without it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from locheads.discovery.criteria import elbow_threshold, spatial_entropy
from locheads.grounding.hulls import largest_hull, tight_box
from locheads.pocket.scenes import CANVAS, PATCH, Scene

SKIPPED_LAYERS, CANDIDATES, TOP = 2, 10, 3
Heads = list[tuple[int, int]]


@dataclass(frozen=True)
class Truth:
    """`cells` bool [24, 24]: patches covered by half or more. `box` is xyxy in patches of the padded square."""

    cells: np.ndarray
    box: tuple[float, float, float, float]


def truth_of(scene: Scene, target: int) -> Truth:
    """The referred object on the patch grid of the padded picture."""
    x, y = (CANVAS - scene.width) // 2, (CANVAS - scene.height) // 2
    item = scene.objects[target]
    square = np.zeros((CANVAS, CANVAS), bool)
    square[y : y + scene.height, x : x + scene.width] = item.mask(scene.height, scene.width)
    grid = CANVAS // PATCH
    cells = square.reshape(grid, PATCH, grid, PATCH).mean(axis=(1, 3)) >= 0.5
    x0, y0, w, h = item.box
    return Truth(cells, ((x0 + x) / PATCH, (y0 + y) / PATCH, (x0 + x + w) / PATCH, (y0 + y + h) / PATCH))


@dataclass(frozen=True)
class HeadReport:
    """Per head, [layers, heads], means over the expressions: `sums` of attention on the image, `mass` on the object,
    `iou` of the cells above the mean with the object, `pointing` (peak in the box), `frequency` among the candidates.

    `sets`: per named set of heads its Acc@0.5, mean box IoU, pointing accuracy by the paper's grounding.
    """

    sums: np.ndarray
    mass: np.ndarray
    iou: np.ndarray
    pointing: np.ndarray
    frequency: np.ndarray
    sets: dict[str, dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers: the sets, and the ten heads with the best IoU."""
        order = np.argsort(-self.iou, axis=None)[:10]
        names = ("sums", "mass", "iou", "pointing", "frequency")
        heads = self.iou.shape[1]
        best = {
            f"L{i // heads}H{i % heads}": {name: round(float(getattr(self, name).flat[i]), 3) for name in names}
            for i in order
        }
        return {"sets": self.sets, "best_heads": best}


def measure_heads(maps: np.ndarray, truths: list[Truth]) -> HeadReport:
    """`maps` float [n, layers, heads, 24, 24]. The oracle's heads are chosen on the first half of the expressions,
    every set of heads is measured on the second half."""
    cells = np.stack([truth.cells for truth in truths])[:, None, None]
    above = maps > maps.mean(axis=(-2, -1), keepdims=True)
    iou = (above & cells).sum((-2, -1)) / (above | cells).sum((-2, -1))
    peaks = maps.reshape(*maps.shape[:3], -1).argmax(-1)
    hits = np.stack([_inside(peaks[i], truth) for i, truth in enumerate(truths)])
    frequency = selection_frequency(maps)
    half = len(maps) // 2
    sets = {
        "found": best_heads(frequency),
        "oracle": best_heads(iou[:half].mean(0)),
        "random": [(int(a), int(b)) for a, b in np.random.default_rng(0).integers((2, 0), maps.shape[1:3], (TOP, 2))],
        "all": [(a, b) for a in range(maps.shape[1]) for b in range(maps.shape[2])],
    }
    measured = {
        name: {"heads": _names(heads)} | _ground(maps[half:], truths[half:], heads) for name, heads in sets.items()
    }
    sums, mass = maps.sum((-2, -1)).mean(0), (maps * cells).sum((-2, -1)).mean(0)
    return HeadReport(sums, mass, iou.mean(0), hits.mean(0), frequency, measured)


def selection_frequency(maps: np.ndarray) -> np.ndarray:
    """Float [layers, heads]: how often a head is among the candidates by the paper's two criteria."""
    count, layers, heads = maps.shape[:3]
    sums = maps.sum((-2, -1)).mean(0)
    eligible = sums >= elbow_threshold(sums[SKIPPED_LAYERS:].ravel())
    eligible[:SKIPPED_LAYERS] = False
    entropy = spatial_entropy(maps.reshape(-1, *maps.shape[3:])).reshape(count, -1)
    entropy[:, ~eligible.ravel()] = np.inf
    order = np.argsort(entropy, axis=1, kind="stable")[:, :CANDIDATES]
    chosen = np.zeros_like(entropy)
    np.put_along_axis(chosen, order, np.isfinite(np.take_along_axis(entropy, order, 1)), axis=1)
    return chosen.mean(0).reshape(layers, heads)


def best_heads(values: np.ndarray) -> Heads:
    """The three heads with the highest value, layers 0 and 1 skipped; ties to the lower (layer, head)."""
    values = values.copy()
    values[:SKIPPED_LAYERS] = -1
    order = np.argsort(-values, axis=None, kind="stable")[:TOP]
    return [(int(i) // values.shape[1], int(i) % values.shape[1]) for i in order]


def _ground(maps: np.ndarray, truths: list[Truth], heads: Heads) -> dict[str, float]:
    layers, indices = zip(*heads, strict=True)
    picked = maps[:, list(layers), list(indices)]
    fused = ndimage.gaussian_filter(picked, 1.0, radius=3, axes=(-2, -1), mode="reflect").sum(1)
    ious, hits = [], []
    for one, truth in zip(fused, truths, strict=True):
        ious.append(box_iou(tight_box(largest_hull(one > one.mean())), truth.box))
        hits.append(bool(_inside(np.array(one.argmax()), truth)))
    ious_array = np.array(ious)
    return {
        "acc50": round(float((ious_array >= 0.5).mean()), 4), "box_iou": round(float(ious_array.mean()), 4),
        "pointing": round(float(np.mean(hits)), 4),
    }  # fmt: skip


def box_iou(one: tuple[float, ...] | None, other: tuple[float, ...]) -> float:
    """IoU of two xyxy boxes; 0 without a box."""
    if one is None:
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def _inside(peaks: np.ndarray, truth: Truth) -> np.ndarray:
    """Bool like `peaks`: whether the middle of the cell (an index into the flat grid) lies in the box."""
    rows, columns = np.divmod(peaks, truth.cells.shape[1])
    x0, y0, x1, y1 = truth.box
    return (columns + 0.5 > x0) & (columns + 0.5 < x1) & (rows + 0.5 > y0) & (rows + 0.5 < y1)


def _names(heads: Heads) -> str:
    return " ".join(f"L{layer}H{head}" for layer, head in heads) if len(heads) <= TOP else f"all {len(heads)}"
