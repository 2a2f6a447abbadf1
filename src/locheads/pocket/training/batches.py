"""What the pocket model is trained on: batches of questions about scenes, from easy to hard."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from locheads.pocket.language import KIND_SHARES, KINDS, Exchange, sample_exchange
from locheads.pocket.render import MAJORITY, pad_to_square, render
from locheads.pocket.scenes import CANVAS, PATCH, Scene, sample_scene
from locheads.pocket.tokenizer import BOS, EOS, PAD, SYSTEM_WORDS, vocabulary
from locheads.pocket.training.facts import with_fact

PATCHES = (CANVAS // PATCH) ** 2
IDS = {word: i for i, word in enumerate(vocabulary())}
PREFIX = [IDS[BOS], *(IDS[word] for word in SYSTEM_WORDS)]
_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Level:
    """`counts`: of objects; `kinds`: of expressions; `majority`: share of an object's dots that have its dot colour.

    `keep`: image tokens that the decoder may see (one is drawn per step); `full`: share of steps that see all.
    `leave_at`: running share of right first words at which the next level begins; it also begins after `longest` steps.
    """

    counts: tuple[int, ...]
    kinds: tuple[str, ...]
    majority: float
    keep: tuple[int, ...]
    full: float
    leave_at: float
    longest: float
    shares: tuple[float, ...] = KIND_SHARES
    """Of the kinds, before a position that does not tell becomes an attribute expression."""
    facts: float = 0.0
    """Share of the bare expressions that are answered by a fact about the scene (`locheads.pocket.training.facts`)."""
    image_cost: float = 0.0
    """Loss per unit of the cost of looking at the image (`locheads.pocket.training.looking`)."""


LEVELS = (
    Level((2, 3), KINDS[:1], 0.95, (96,), 0.0, 0.88, 1200),
    Level((3, 4, 5), KINDS, 0.8, (96, 128), 0.02, 0.88, 2000, facts=0.3, image_cost=0.01),
    Level((3, 4, 5), KINDS, 0.6, (112, 144, 192), 0.1, 2.0, float("inf"), (0.5, 0.5), facts=0.3, image_cost=0.01),
)
MEMORY = 0.97  # of the running accuracy, per step


@dataclass(frozen=True)
class Batch:
    """`pixels` float [b, 3, 192, 192]; `tokens`, `targets` int64 [b, exchanges, t], filled up at the end.

    `targets` is -100 where nothing is supervised. `exchanges` holds what the tokens say, per scene.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    targets: torch.Tensor
    exchanges: list[list[Exchange]]


def pixels_of(scenes: list[Scene], majority: float = MAJORITY) -> torch.Tensor:
    """Float [b, 3, 192, 192]: the scenes drawn, padded and normalised as the image processor does."""
    images = np.stack([pad_to_square(render(scene, majority)) for scene in scenes])
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - _MEAN) / _STD


def make_batch(level: Level, scenes: int, seed: int, step: int, per_scene: int = 16) -> Batch:
    """The batch of `step`, with `per_scene` exchanges about each scene; the same for the same arguments."""
    seeds = np.random.default_rng([seed, step]).integers(2**40, 2**41, size=scenes).tolist()
    drawn, exchanges = [sample_scene(scene_seed, level.counts) for scene_seed in seeds], []
    for scene in drawn:
        rng = np.random.default_rng([scene.seed, 3])
        asked = [sample_exchange(scene, rng, level.kinds, level.shares) for _ in range(per_scene)]
        exchanges.append([with_fact(exchange, scene, rng, level.facts) for exchange in asked])
    return Batch(pixels_of(drawn, level.majority), *pack(exchanges), exchanges)


def pack(exchanges: list[list[Exchange]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets of `Batch`: each position's target is the token that follows it in an answer."""
    tokens, targets = zip(*(_tokens(exchange) for of_scene in exchanges for exchange in of_scene), strict=True)
    padded = (pad_sequence(rows, True, fill) for rows, fill in ((tokens, IDS[PAD]), (targets, -100)))
    first, second = (rows.unflatten(0, (len(exchanges), -1)) for rows in padded)
    return first, second


def _tokens(exchange: Exchange) -> tuple[torch.Tensor, torch.Tensor]:
    prompt, answer = ([IDS[word] for word in text.split()] for text in (exchange.prompt, exchange.answer))
    return torch.tensor(prompt + answer), torch.tensor([-100] * (len(prompt) - 1) + answer + [IDS[EOS]])


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
