"""What is trained when: levels of growing difficulty, each left when the running accuracy says so."""

from dataclasses import dataclass

from locheads.pocket.batches import Task
from locheads.pocket.language import KINDS


@dataclass(frozen=True)
class Level:
    """`keep`: image tokens that the decoder may see (one is drawn per step); `full`: share of steps that see all.

    `leave_at`: running share of right first words at which the next level begins; it also begins after `longest`
    steps. `palettes`: colours per scene (None: as in the data set), and `focus`: the field by which attribute
    expressions go; one of each is drawn per step.
    """

    counts: tuple[int, ...]
    kinds: tuple[str, ...]
    majority: float
    keep: tuple[int, ...]
    full: float
    leave_at: float
    longest: float
    palettes: tuple[int | None, ...] = (None,)
    focus: tuple[str | None, ...] = (None,)


LEVELS = (
    Level((2, 3), KINDS[:1], 0.95, (80,), 0.0, 0.86, 700, palettes=(6,), focus=("colour",)),
    Level((1, 2, 3), KINDS[:1], 0.95, (112,), 0.0, 0.90, 1200, (1, 6), ("colour", "texture", "size", "shape")),
    Level((2, 3, 4), KINDS[:3], 0.8, (112, 144), 0.04, 0.85, 800, palettes=(1, 3, 6)),
    Level((3, 4, 5), KINDS, 0.65, (112, 144, 176), 0.06, 0.80, 800, palettes=(1, None, None)),
    Level((3, 4, 5), KINDS, 0.5, (128, 176, 224), 0.10, 2.0, float("inf")),
)
MEMORY = 0.97  # of the running accuracy, per step


def task_of(level: int, scenes: int, palette: int | None = None, focus: str | None = None) -> Task:
    """The batches of a level."""
    at = LEVELS[level]
    return Task(at.counts, at.kinds, at.majority, palette, focus, scenes)


@dataclass
class Progress:
    """Where a run stands; saved in its checkpoints. `accuracy` is the running one of the level, `seconds` trained."""

    step: int = 0
    level: int = 0
    level_start: int = 0
    accuracy: float = 0.0
    seconds: float = 0.0

    def update(self, accuracy: float) -> None:
        """Takes the accuracy of one step in and moves to the next level when it is time."""
        self.step += 1
        self.accuracy = MEMORY * self.accuracy + (1 - MEMORY) * accuracy
        spent = self.step - self.level_start
        done = self.accuracy >= LEVELS[self.level].leave_at and spent >= 100
        if done or spent >= LEVELS[self.level].longest:
            self.level, self.level_start, self.accuracy = self.level + 1, self.step, 0.0
