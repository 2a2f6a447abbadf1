"""What is trained when: first words (see `pretrain`), then answers on levels of growing difficulty."""

from dataclasses import dataclass

from locheads.pocket.batches import Task
from locheads.pocket.language import KINDS


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
