"""An original beside what its conversion loads as, through the doors that a user takes."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import written
from PIL import Image, ImageDraw
from torch import Tensor

from locheads.geometry import Preprocess
from locheads.models.attend import attend_image
from locheads.models.config import DType, ModelConfig, PromptConfig
from locheads.models.convert.__main__ import main
from locheads.models.engine import EngineConfig
from locheads.models.load import Lvlm, load_lvlm

TOLERANCE = 1e-4
"""Of float32: absolute, and relative to numbers above 1. Processors differ by some 1e-5, swapped weights by 0.3."""
EXPRESSIONS = ["the red circle", "blue cup"]
PROMPT = PromptConfig(template="A USER: <image>\nwhere is {expression} ASSISTANT:")


def scene() -> Image.Image:
    """A drawn image, wider than high: bars and crops matter."""
    image = Image.new("RGB", (90, 57), (60, 120, 200))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 40, 90, 56), fill=(90, 160, 60))
    draw.ellipse((10, 8, 38, 36), fill=(210, 40, 40))
    draw.rectangle((60, 20, 80, 50), fill=(230, 220, 80))
    return image


def load(folder: Path, how: Preprocess = Preprocess.native) -> Lvlm:
    config = ModelConfig(id=str(folder), dtype=DType.float32, preprocess=how)
    return load_lvlm(config, EngineConfig(device="cpu"))


def largest(found: Tensor, expected: Tensor) -> float:
    """Difference, absolute or relative, whichever is smaller."""
    return float(((found - expected).abs() / expected.abs().clamp(min=1)).max())


class Converted:
    """An original, and what its conversion loads as."""

    def __init__(
        self, original: written.Original, folder: Path, *options: str, load: Callable[[Path], Lvlm] = load
    ) -> None:
        self.original, self.source, self.result = original, original.write(folder / "source"), folder / "result"
        assert main([str(self.source), str(self.result), *options]) == 0
        self.lvlm = load(self.result)
        self._expected = [original.decode(scene(), self.text(expression)) for expression in EXPRESSIONS]

    def text(self, expression: str) -> str:
        """What the original is asked, with what it puts around the image."""
        return PROMPT.template.replace("<image>", self.original.around).format(expression=expression + ".")

    def differences(self) -> tuple[float, float]:
        """-> the largest of the last hidden states, and of the attention rows."""
        rows, _ = attend_image(self.lvlm, scene(), EXPRESSIONS, PROMPT)
        hidden, row = [], []
        for i, (expected, cells) in enumerate(self._expected):
            of_layers = torch.stack([layer[:, -1, cells] for layer in expected.attention])
            row.append(largest(torch.from_numpy(rows[i]).reshape(of_layers.shape), of_layers))
            hidden.append(largest(self._hidden(i), expected.hidden))
        return max(hidden), max(row)

    @torch.inference_mode()
    def _hidden(self, i: int) -> Tensor:
        prepared = self.lvlm.adapter.prepare(scene(), EXPRESSIONS, PROMPT)
        ids = torch.cat([prepared.prefix, prepared.suffixes[i]])[None]
        return self.lvlm.model.base_model(input_ids=ids, use_cache=False, **prepared.tensors).last_hidden_state[0]

    def swapped(self) -> Iterator[tuple[str, str]]:
        """Swaps two weights of the same shape in the loaded model, one pair after the other, each with the next."""
        weights = dict(self.lvlm.model.named_parameters())
        by_shape = sorted(weights, key=lambda name: (tuple(weights[name].shape), name))
        for one, other in itertools.pairwise(by_shape):
            if weights[one].shape != weights[other].shape:
                continue
            a, b = weights[one].data, weights[other].data
            weights[one].data, weights[other].data = b, a
            yield one, other
            weights[one].data, weights[other].data = a, b


def check_equal(one: Converted) -> None:
    """Both give the same hidden states and attention rows, which are worth comparing: peaked, unlike each other."""
    hidden, rows = one.differences()
    assert hidden < TOLERANCE and rows < TOLERANCE
    maps, _ = attend_image(one.lvlm, scene(), EXPRESSIONS, PROMPT)
    assert maps.max() > 0.3 and np.abs(maps[0] - maps[1]).max() > 0.05


def check_swaps(one: Converted, idle: tuple[str, ...]) -> None:
    """Any two weights of the same shape swapped are found out, but for those that do not reach the result (`idle`)."""
    tried = 0
    for pair in one.swapped():
        if all(any(part in name for part in idle) for name in pair):
            continue
        tried += 1
        assert max(one.differences()) > 10 * TOLERANCE, pair
    assert tried > 20
