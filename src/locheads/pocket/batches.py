"""Training batches: scenes with several exchanges each, packed behind one image. A batch follows from (seed, step)."""

from dataclasses import dataclass

import numpy as np
import torch

from locheads.pocket.language import KINDS, Exchange, sample_exchange
from locheads.pocket.render import pad_to_square, render
from locheads.pocket.scenes import CANVAS, PATCH, sample_scene
from locheads.pocket.tokenizer import BOS, EOS, PAD, SYSTEM, vocabulary

PATCHES = (CANVAS // PATCH) ** 2
IDS = {word: i for i, word in enumerate(vocabulary())}
PREFIX = [IDS[BOS], *(IDS[word] for word in SYSTEM.lower().replace(".", " .").replace(",", " ,").split())]
_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Task:
    """What a batch holds: object counts, kinds of expression, share of majority dots, colours per scene, the field
    that attribute expressions go by (see `sample_expression`), scenes, exchanges per scene."""

    counts: tuple[int, ...] = (3, 4, 5)
    kinds: tuple[str, ...] = KINDS
    majority: float = 0.5
    palette: int | None = None
    focus: str | None = None
    scenes: int = 8
    exchanges: int = 12


@dataclass(frozen=True)
class Batch:
    """`pixels` float [b, 3, 192, 192]; `tokens`, `segments`, `positions`, `targets` int64 [b, t] of the packed text.

    `segments` is 1.. per exchange and -1 for filling; `targets` is -100 where nothing is supervised. `exchanges` holds
    what the segments say, per scene.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    segments: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    exchanges: list[list[Exchange]]


def normalise(pictures: np.ndarray) -> torch.Tensor:
    """Uint8 [b, h, w, 3] -> float [b, 3, h, w], as the image processor does."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    return (pixels - _MEAN) / _STD


def make_batch(task: Task, seed: int, step: int) -> Batch:
    """The batch of `step`; the same for the same arguments."""
    seeds = np.random.default_rng([seed, step]).integers(2**40, 2**41, size=task.scenes)
    pictures, exchanges = [], []
    for scene_seed in seeds:
        scene = sample_scene(int(scene_seed), task.counts, task.palette)
        rng = np.random.default_rng([int(scene_seed), 3])
        pictures.append(pad_to_square(render(scene, task.majority)))
        exchanges.append([sample_exchange(scene, rng, task.kinds, task.focus) for _ in range(task.exchanges)])
    return Batch(normalise(np.stack(pictures)), *pack(exchanges), exchanges)


def pack(exchanges: list[list[Exchange]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, segments, positions and targets of `Batch`: the exchanges of each scene one after the other."""
    rows = []
    for scene_exchanges in exchanges:
        row: list[tuple[int, int, int, int]] = []
        for segment, exchange in enumerate(scene_exchanges, start=1):
            prompt, answer = ([IDS[word] for word in text.split()] for text in (exchange.prompt, exchange.answer))
            tokens = prompt + answer
            targets = [-100] * (len(prompt) - 1) + answer + [IDS[EOS]]
            start = len(PREFIX) + PATCHES
            row += [(token, segment, start + i, targets[i]) for i, token in enumerate(tokens)]
        rows.append(row)
    longest = max(map(len, rows))
    filled = [row + [(IDS[PAD], -1, 0, -100)] * (longest - len(row)) for row in rows]
    packed = torch.tensor(filled)
    return packed[..., 0], packed[..., 1], packed[..., 2], packed[..., 3]
