"""The choices of the segmenters; kept apart, because the configuration loads before everything.

The paper: "SAM", prompted by the box. Which SAM, and whether anything but the box is a prompt, it does not say.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from locheads.dotted import is_dotted
from locheads.errors import Rule
from locheads.settings import Count, Text, require, settings


class SegmenterKind(StrEnum):
    """Where the masks of RES come from."""

    none = "none"
    """The pseudo-mask: the map's cells above the threshold."""
    box = "box"
    """The box, filled: what a mask adds to it."""
    grabcut = "grabcut"
    """OpenCV's GrabCut in the box: colours of this image only, no weights."""
    sam_hf = "sam_hf"
    """SAM as transformers has it; needs no torchvision."""
    segment_anything = "segment_anything"
    """SAM as Meta's package has it; needs the extra "sam"."""
    sam2 = "sam2"
    """SAM 2 as transformers has it."""


class SamSize(StrEnum):
    """Meta's three checkpoints."""

    vit_b = "vit_b"
    vit_l = "vit_l"
    vit_h = "vit_h"


class PromptKind(StrEnum):
    """The prompt that SAM gets. The paper: the box."""

    box = "box"
    box_point = "box_point"
    """The box and points."""
    points = "points"
    """Points only."""
    mask = "mask"
    """The box and the pseudo-mask as low-resolution logits."""


class PointRule(StrEnum):
    """Which points on the object are asked with prompt=box_point and prompt=points (segmenters/prompting.py)."""

    peak = "peak"
    """The fused map's peak."""
    inner = "inner"
    """`n_points` of the pseudo-mask in the box, away from its border and from each other."""
    high = "high"
    """Every cell that reaches 0.9 of the way from the fused map's lowest to its highest, half of them at most."""


class Negatives(StrEnum):
    """Which points beside the object are asked with them."""

    none = "none"
    lowest = "lowest"
    """The lowest cells of the fused map, as many as there are points on the object."""


class MaskChoice(StrEnum):
    """Which of the three masks that multimask=true proposes."""

    score = "score"
    """The one that SAM itself rates best."""
    overlap = "overlap"
    """The one of the largest IoU with the pseudo-mask."""
    last = "last"
    """The third, as SAM orders them by what they cover: part, part of a whole, whole."""


Margin = Annotated[float, Field(ge=0, le=10, description="must lie between 0 and 10 (0.1 is 10 %)")]
WITH_WEIGHTS = (SegmenterKind.sam_hf, SegmenterKind.segment_anything, SegmenterKind.sam2)


@settings("segmenter")
class SegmenterConfig:
    """From box to mask."""

    name: str = "none"
    kind: str = "none"
    """A SegmenterKind, or a class of your own: package.module:Class (see segmenter.Segmenter)."""
    checkpoint: str | None = None
    """SAM: Meta's .pth file (sam_hf and segment_anything), a transformers folder, or a hub id (sam_hf and sam2)."""
    revision: Text | None = None
    """Commit of the hub repository."""
    size: SamSize = SamSize.vit_h
    """Of a .pth file."""
    prompt: PromptKind = PromptKind.box
    multimask: bool = False
    """SAM proposes three masks, of which `choice` picks one; false: its single mask."""
    choice: MaskChoice = MaskChoice.score
    points: PointRule = PointRule.peak
    n_points: Annotated[int, Field(ge=1, le=100, description="must lie between 1 and 100")] = 5
    """Only points=inner."""
    depth: Annotated[float, Field(ge=0, le=1, description="must lie between 0 and 1")] = 0.0
    """Only points=inner: no point is nearer to the border than this share of the largest distance that a pixel has."""
    negatives: Negatives = Negatives.none
    margin: Margin = 0.0
    """The box that is asked has this share of its width (height) more on each side."""
    margin_pixels: Annotated[float, Field(ge=0, le=1e4, description="must be a number of pixels, 0 to 10,000")] = 0.0
    """And so many pixels."""
    rounds: Annotated[int, Field(ge=1, le=10, description="must lie between 1 and 10")] = 1
    """How often SAM is asked: from the second time on with the tight box of the mask before, whatever `prompt` is."""
    round_margin: Margin = 0.1
    """Of that box, as `margin`."""
    box: bool = False
    """The box of REC becomes the tight box of the mask."""
    batch: Count = 16
    """Prompts of one image that SAM decodes at once."""

    def __post_init__(self) -> None:
        kind, checkpoint = self.kind, self.checkpoint or ""
        require(
            *self._prompt_rules(),
            (
                kind in list(SegmenterKind) or is_dotted(kind),
                f"segmenter.kind={kind} is unknown: use one of {', '.join(SegmenterKind)}, or package.module:Class of "
                "your own.",
            ),
            (
                kind not in WITH_WEIGHTS or bool(checkpoint),
                f"segmenter={kind} needs segmenter.checkpoint: the path of its weights, or a hub id.",
            ),
            (
                kind != SegmenterKind.segment_anything or checkpoint.endswith(".pth"),
                f"segmenter.checkpoint={checkpoint} is no .pth file, which segmenter=segment_anything reads; "
                "segmenter=sam_hf reads folders and hub ids.",
            ),
            (
                kind != SegmenterKind.sam2 or not checkpoint.endswith(".pth"),
                f"segmenter.checkpoint={checkpoint} is a .pth file; segmenter=sam2 reads a transformers folder or a "
                "hub id such as facebook/sam2.1-hiera-large.",
            ),
        )

    def _prompt_rules(self) -> list[Rule]:
        """Settings that nothing would read: a run would be named after what it did not do."""
        return [
            (
                self.asks_points or self.points == PointRule.peak,
                f"segmenter.points={self.points} is for prompts with points, not for segmenter.prompt={self.prompt}: "
                "set segmenter.prompt=box_point or segmenter.prompt=points.",
            ),
            (
                self.points == PointRule.inner or self.depth == 0,
                f"segmenter.depth={self.depth} keeps inner points from the border: set segmenter.points=inner.",
            ),
            (
                self.asks_points or self.negatives == Negatives.none,
                f"segmenter.negatives={self.negatives} is for prompts with points, not for "
                f"segmenter.prompt={self.prompt}: set segmenter.prompt=box_point or segmenter.prompt=points.",
            ),
            (
                self.multimask or self.choice == MaskChoice.score,
                f"segmenter.choice={self.choice} chooses among several masks: set segmenter.multimask=true.",
            ),
            (
                self.prompt != PromptKind.points or self.margin == self.margin_pixels == 0,
                "segmenter.margin and segmenter.margin_pixels widen the box, and segmenter.prompt=points asks without "
                "one: set segmenter.prompt=box_point, or leave them out.",
            ),
        ]

    @property
    def asks_points(self) -> bool:
        """Whether points are part of the prompt."""
        return self.prompt in (PromptKind.points, PromptKind.box_point)

    @property
    def asks_box(self) -> bool:
        """Whether a box is."""
        return self.prompt != PromptKind.points

    @property
    def reads_map(self) -> bool:
        """Whether the prompt needs the fused map besides the answer."""
        return self.points == PointRule.high or self.negatives == Negatives.lowest
