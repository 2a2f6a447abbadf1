"""The values that the packages hand to each other. Boxes are `(x0, y0, x1, y1)` in pixels of the original image, x1
and y1 exclusive, unless a name says otherwise. Layers and heads count from 0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float16, Real, UInt

from locheads.errors import DiscoveryError
from locheads.geometry import Geometry

Box = tuple[float, float, float, float]
"""xyxy in pixels of the original image."""

Rect = tuple[int, int, int, int]
"""xyxy in whole pixels of the original image."""

NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)
"""Around no object: its area is 0, so that no box overlaps it and no point lies in it."""


@dataclass(frozen=True, order=True)
class HeadIndex:
    """One attention head of the text decoder. Orders by (layer, head): the rule that breaks ties."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"


class Excerpt(str):
    """A text that is asked whole for the sake of a part of it, whose tokens may be the query (`prompt.query`). Without
    white space at its ends or several blanks in a row; the part is a half-open range of its characters."""

    part: tuple[int, int]

    def __new__(cls, text: str, part: tuple[int, int] = (0, 0)) -> "Excerpt":
        excerpt = super().__new__(cls, text)
        excerpt.part = part
        return excerpt

    @classmethod
    def within(cls, before: str, part: str, after: str) -> "Excerpt":
        """The part between what stands before and after it, white space made plain."""
        head, own = " ".join(before.split()), " ".join(part.split())
        if head and (before[-1].isspace() or part[:1].isspace()):
            head += " "
        return cls(" ".join((before + part + after).split()), (len(head), len(head) + len(own)))

    @property
    def parts(self) -> tuple[str, str, str]:
        """Before, part, after: the arguments of `within`."""
        start, end = self.part
        return self[:start], self[start:end], self[end:]

    def reworded(self, part: str) -> "Excerpt":
        """The same with another text as its part."""
        before, _, after = self.parts
        return Excerpt.within(before, part, after)


@dataclass(frozen=True)
class Sample:
    """One expression and what it names: one object, or, where the data set has such, several or none."""

    sample_id: str
    """The sentence id of the data set: unique in it."""
    ref_id: str
    expression: str
    box: Box
    """Around all that is named; NO_BOX where nothing is."""
    mask: dict[str, object]
    """Of all that is named as COCO run-length code, {"size": [height, width], "counts": str}."""
    category: str
    distractors: int | None = None
    """Other objects of that category in the image; None where the data set does not tell."""
    negation: bool | None = None
    """Whether the expression says what the object is not; None where the data set does not tell, but its words may."""
    faulty: bool | None = None
    """Whether reviewers found the expression or its box wrong; None where nobody looked (`data/review.py`)."""
    boxes: tuple[Box, ...] | None = None
    """A box for every object that is named, () for none; None where an expression always names one."""
    kinds: tuple[str, ...] = ()
    """What the data set's publishers report apart, from coarse to fine, such as ("icon", "mobile icon")."""
    screen: bool = False
    """Whether the image is a screen, on which an answer is a click."""
    alternatives: tuple[Box, ...] = ()
    """Boxes of which any one is right, where the data set is scored so (Flickr30k Entities)."""
    panoptic: bool = False
    """Whether it is a phrase of a caption that names segments of a panoptic segmentation (PNG)."""
    mask_side: int | None = None
    """PNG's masks are compared once they were resized to a square of this side and back; None: as they are."""
    sentence: Excerpt | None = None
    """What is asked in place of the expression alone: a text that holds it (`dataset.asked=in_text`)."""
    heat: Path | None = None
    """Image file of the true heat map, where the truth is neither box nor mask (AGD20K)."""

    @property
    def asked(self) -> str:
        """The text that is put into the prompt."""
        return self.expression if self.sentence is None else self.sentence

    def reworded(self, expression: str) -> "Sample":
        """The same sample asked by another expression."""
        sentence = None if self.sentence is None else self.sentence.reworded(expression)
        return replace(self, expression=expression, sentence=sentence)

    @property
    def absent(self) -> bool:
        """Whether nothing in the image is what the expression names."""
        return self.boxes == ()

    @property
    def objects(self) -> tuple[Box, ...]:
        """The box of every object that is named."""
        return (self.box,) if self.boxes is None else self.boxes

    def is_apart_from(self, other: "Sample") -> bool:
        """Whether both name something, and no object is named by both: told by the boxes."""
        return bool(self.objects and other.objects) and set(self.objects).isdisjoint(other.objects)


@dataclass(frozen=True)
class ImageGroup:
    """An image with the expressions that are asked about it, so that the LVLM sees the image once."""

    image_id: str
    path: Path
    width: int
    height: int
    samples: tuple[Sample, ...]
    crop: Rect | None = None
    """The part of the file that the LVLM sees, width x height pixels large; None: all of it."""


@dataclass(frozen=True)
class Answer:
    """What the LVLM says to one expression in its own words: at every step the most probable token."""

    ids: tuple[int, ...]
    """Its tokens, without the one that ends it."""
    pieces: tuple[str, ...]
    """What each of them adds to the text; nothing where it only begins a letter, which the next one completes."""
    ended: bool
    """Whether the model ended it; else the limit of tokens did."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class HeadScores:
    """The numbers of every sample and head that discovery ranks by; one row per sample."""

    sample_ids: tuple[str, ...]
    numbers: Mapping[str, Float[np.ndarray, "sample layer head"]]
    """By name, see `map_numbers.NUMBERS`; "entropy" is inf where no cell exceeds the floor."""
    of_heads: Mapping[str, Float[np.ndarray, "layer head"]] = field(default_factory=dict)
    """Numbers that a head has over all samples, by name: its dependence on the words, where that was measured."""

    def __getitem__(self, name: str) -> Float[np.ndarray, "sample layer head"]:
        """The number of this name. Raises DiscoveryError where it was not worked out."""
        if name in self.of_heads:
            return np.broadcast_to(self.of_heads[name], (len(self.sample_ids), *self.of_heads[name].shape))
        if name not in self.numbers:
            raise DiscoveryError(f"The scores hold no {name}: score the attention maps by the criterion that reads it.")
        return self.numbers[name]

    def rows(self, indices: np.ndarray) -> "HeadScores":
        """The scores of some samples, by position (repeats allowed)."""
        ids = tuple(self.sample_ids[i] for i in indices)
        return HeadScores(ids, {name: values[indices] for name, values in self.numbers.items()}, self.of_heads)


@dataclass(frozen=True)
class Attention:
    """What the attention pass found for some expressions of one image; what was not asked for is None."""

    image_id: str
    sample_ids: tuple[str, ...]
    maps: Float[np.ndarray, "sample *head row col"]
    """Post-softmax weights from the query token to the image tokens, not renormalised: [sample, layer, head, row, col]
    of all heads of the model, or [sample, chosen, row, col] of `heads`."""
    sums: Float[np.ndarray, "sample layer head"] | None
    """attention_sum (S_img) of each map of the model, in [0, 1], summed before the maps were packed into 16 bits."""
    geometry: Geometry
    image: str | None = None
    """sha256 of the image's file, for a part of it followed by the part (`AttentionStore.image`); None where it is not
    known."""
    heads: tuple[HeadIndex, ...] | None = None
    """Whose maps are there; None: those of all heads of the model, from which all the rest follows."""
    scores: HeadScores | None = None
    """Of every head of the model."""
    scored_by: tuple[str, ...] | None = None
    """What the scores depend on (`CriterionConfig.numbers_key`)."""
    mean: Float[np.ndarray, "sample row col"] | None = None
    """The mean over all heads of the model."""
    cells: Bool[np.ndarray, "sample layer head row col"] | None = None
    """Of every head of the model: the cells above the map's mean."""

    def chosen(self, row: int, heads: Sequence[HeadIndex]) -> Float[np.ndarray, "chosen row col"]:
        """The maps of some heads for one sample. Raises ValueError where one of them is not there."""
        if self.heads is None:
            return self.maps[row][[h.layer for h in heads], [h.head for h in heads]]
        absent = [str(head) for head in heads if head not in self._places]
        if absent:
            raise ValueError(f"the attention store lacks the maps of {', '.join(absent)}")
        return self.maps[row, [self._places[head] for head in heads]]

    @cached_property
    def _places(self) -> dict[HeadIndex, int]:
        return {head: i for i, head in enumerate(self.heads or ())}

    def mean_map(self, row: int) -> Float[np.ndarray, "row col"]:
        """The mean over all heads of the model for one sample. Raises ValueError where it is not there."""
        if self.mean is not None:
            return self.mean[row]
        if self.heads is not None:
            raise ValueError("the attention store lacks the mean over all heads")
        return self.maps[row].mean(axis=(0, 1))


@dataclass(frozen=True)
class Overlaps:
    """How much of the maps of some samples of one image stays where it was from one sample to another, of each head."""

    overlap: Float16[np.ndarray, "pair *head"]
    """Of pairs of the samples, in the order of `dependence.pairs`: sum of min(P, P') of the smoothed maps P over their
    own sums, in [0, 1]."""
    peaks: UInt[np.ndarray, "sample *head"]
    """Of each smoothed map the cell of the largest weight, counted in reading order."""
    shape: tuple[int, int]
    """(rows, columns) of the maps."""


@dataclass(frozen=True)
class Discovery:
    """How often each head was chosen, over all trials."""

    frequency_mean: Float[np.ndarray, "layer head"]
    frequency_std: Float[np.ndarray, "layer head"]
    """Standard deviation over the trials (population form)."""
    frequency_per_trial: Float[np.ndarray, "trial layer head"]
    mean_sums: Float[np.ndarray, "layer head"]
    """attention_sum averaged over the samples, then over the trials."""
    tau: float | None
    """The threshold on mean_sums: its elbow, or the fixed value that the configuration gives; None where the
    criterion has no such threshold."""
    tau_per_trial: tuple[float | None, ...]
    eligible: Bool[np.ndarray, "layer head"]
    """Heads that the criterion admits (all of the admitted layers where it has no threshold)."""
    frequency_ends: Float[np.ndarray, "2 layer head"] | None = None
    """Low and high of frequency_mean: its 95 % interval over images, the thresholds taken as they are. None where it
    was not said which image each sample is of; [0, 1] for a single image, which tells nothing of others."""
    n_images: int | None = None
    """Images that the trials' samples are of."""
    score_per_trial: Float[np.ndarray, "trial layer head"] | None = None
    """What the heads are ranked by where the criterion does not rank them by how often they were chosen."""

    @property
    def score(self) -> Float[np.ndarray, "layer head"] | None:
        """The mean over the trials of `score_per_trial`."""
        return None if self.score_per_trial is None else self.score_per_trial.mean(axis=0)

    def ranking(self) -> list[HeadIndex]:
        """Heads that were chosen at least once, the most frequent first (or those with a score, the highest first);
        ties by (layer, head)."""
        return heads_above_zero(self.frequency_mean if self.score is None else self.score)

    def ranking_per_trial(self) -> list[list[HeadIndex]]:
        """As `ranking`, for each trial alone: do other samples lead to the same heads?"""
        per_trial = self.frequency_per_trial if self.score_per_trial is None else self.score_per_trial
        return [heads_above_zero(of_trial) for of_trial in per_trial]


def heads_by(values: Real[np.ndarray, "layer head"]) -> list[HeadIndex]:
    """Every head, those with the highest value first; ties by (layer, head)."""
    order = np.argsort(-values, axis=None, kind="stable")
    return [HeadIndex(*divmod(int(i), values.shape[1])) for i in order]


def heads_above_zero(values: Real[np.ndarray, "layer head"]) -> list[HeadIndex]:
    """As `heads_by`, without those whose value is 0."""
    return heads_by(values)[: int((values > 0).sum())]


@dataclass(frozen=True)
class Grounding:
    """The answer for one expression."""

    box: Box | None
    """None where the fused map has no cell above its threshold."""
    mask: Bool[np.ndarray, "height width"]
    """The pseudo-mask in pixels of the original image."""
    heatmap: Float[np.ndarray, "row col"]
    """The fused map on the patch grid."""
    geometry: Geometry
    absence: Mapping[str, float] = field(default_factory=dict)
    """What speaks for "it is not there": the scores of `AbsenceScore` that need no other question, each in [0, 1]. From
    which value on nothing is there, a run works out on samples (docs/absence.md). Empty for contrasted maps."""


@dataclass(frozen=True)
class Failure:
    """A sample that could not be processed: it is recorded, counted and scored as a miss."""

    sample_id: str
    image_id: str
    reason: str
