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
    """What a batch holds: object counts, kinds of expression, share of majority dots, scenes, exchanges per scene."""

    counts: tuple[int, ...] = (3, 4, 5)
    kinds: tuple[str, ...] = KINDS
    majority: float = 0.6
    scenes: int = 6
    exchanges: int = 16


@dataclass(frozen=True)
class Batch:
    """`pixels` float [b, 3, 192, 192]; `tokens`, `targets` int64 [b, exchanges, t], filled up at the end.

    `targets` is -100 where nothing is supervised. `exchanges` holds what the tokens say, per scene.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    targets: torch.Tensor
    exchanges: list[list[Exchange]]


def normalise(images: np.ndarray) -> torch.Tensor:
    """Uint8 [b, h, w, 3] -> float [b, 3, h, w], as the image processor does."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - _MEAN) / _STD


def make_batch(task: Task, seed: int, step: int) -> Batch:
    """The batch of `step`; the same for the same arguments."""
    seeds = np.random.default_rng([seed, step]).integers(2**40, 2**41, size=task.scenes)
    images, exchanges = [], []
    for scene_seed in seeds:
        scene = sample_scene(int(scene_seed), task.counts)
        rng = np.random.default_rng([int(scene_seed), 3])
        images.append(pad_to_square(render(scene, task.majority)))
        exchanges.append([sample_exchange(scene, rng, task.kinds) for _ in range(task.exchanges)])
    return Batch(normalise(np.stack(images)), *pack(exchanges), exchanges)


def pack(exchanges: list[list[Exchange]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets of `Batch`: each position's target is the token that follows it in an answer."""
    rows = [_tokens(exchange) for of_scene in exchanges for exchange in of_scene]
    longest = max(len(tokens) for tokens, _ in rows)
    tokens = [tokens + [IDS[PAD]] * (longest - len(tokens)) for tokens, _ in rows]
    targets = [targets + [-100] * (longest - len(targets)) for _, targets in rows]
    shape = (len(exchanges), -1, longest)
    return torch.tensor(tokens).reshape(shape), torch.tensor(targets).reshape(shape)


def _tokens(exchange: Exchange) -> tuple[list[int], list[int]]:
    prompt, answer = ([IDS[word] for word in text.split()] for text in (exchange.prompt, exchange.answer))
    return prompt + answer, [-100] * (len(prompt) - 1) + answer + [IDS[EOS]]
