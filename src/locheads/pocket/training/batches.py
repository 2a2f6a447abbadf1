"""What the pocket model is trained on: batches of questions about scenes, from easy to hard."""

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


@dataclass(frozen=True)
class Level:
    """`keep`: image tokens that the decoder may see (one is drawn per step); `full`: share of steps that see all.

    `majority`: share of an object's dots that have its dot colour. `leave_at`: running share of right first words at
    which the next level begins; it also begins after `longest` steps.
    """

    counts: tuple[int, ...]
    kinds: tuple[str, ...]
    majority: float
    keep: tuple[int, ...]
    full: float
    leave_at: float
    longest: float


LEVELS = (
    Level((2, 3), KINDS[:1], 0.95, (96,), 0.0, 0.88, 1200),
    Level((3, 4, 5), KINDS, 0.8, (96, 128), 0.02, 0.88, 2000),
    Level((3, 4, 5), KINDS, 0.6, (112, 144, 192), 0.06, 2.0, float("inf")),
)
MEMORY = 0.97  # of the running accuracy, per step


def task_of(level: int, scenes: int) -> Task:
    """The batches of a level."""
    at = LEVELS[level]
    return Task(at.counts, at.kinds, at.majority, scenes)


@dataclass
class Progress:
    """Where a run stands; saved in its checkpoints. `words` and `step`: steps done of the first and second stage.

    `accuracy` is the running one of the level, `seconds` trained.
    """

    words: int = 0
    step: int = 0
    level: int = 0
    level_start: int = 0
    accuracy: float = 0.0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Steps of both stages."""
        return self.words + self.step

    def update(self, accuracy: float) -> None:
        """Takes the accuracy of one step in and moves to the next level when it is time."""
        self.step += 1
        self.accuracy = MEMORY * self.accuracy + (1 - MEMORY) * accuracy
        spent = self.step - self.level_start
        done = self.accuracy >= LEVELS[self.level].leave_at and spent >= 100
        if done or spent >= LEVELS[self.level].longest:
            self.level, self.level_start, self.accuracy = self.level + 1, self.step, 0.0
