"""The choices of the segmenters; kept apart, because the configuration loads before everything.

The paper: "SAM", prompted by the box. Which SAM, and whether anything but the box is a prompt, it does not say.
"""

from enum import StrEnum

from locheads.dotted import is_dotted
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
    """The box and the fused map's peak."""
    points = "points"
    """The peak only."""
    mask = "mask"
    """The box and the pseudo-mask as low-resolution logits."""


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
    """SAM proposes three masks, of which its own score picks one; false: its single mask."""
    box: bool = False
    """The box of REC becomes the tight box of the mask."""
    batch: Count = 16
    """Prompts of one image that SAM decodes at once."""

    def __post_init__(self) -> None:
        kind, checkpoint = self.kind, self.checkpoint or ""
        require(
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
