"""What is measured, and how the LVLM's own answers are read; kept apart, because the configuration loads before
everything."""

from dataclasses import field
from typing import Annotated

from pydantic import Field

from locheads.data.config import AnswerFormat, Frame
from locheads.settings import Count, Natural, require, settings


@settings("evaluation")
class EvaluationConfig:
    """Baselines and intervals."""

    random_draws: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Draws of k random heads that the baseline averages."""
    confidence: Annotated[float, Field(gt=0, lt=1, description="must lie between 0 and 1")] = 0.95
    resamples: Annotated[int, Field(ge=1, le=10_000_000)] = 2000
    """Sign flips of images behind the p of stage=compare; intervals need none."""
    gallery: Natural = 24
    """Samples shown in the report, evenly spaced over the split."""
    show: list[str] = field(default_factory=list)
    """Ids of samples to show besides."""


@settings("direct")
class DirectConfig:
    """stage=direct: the LVLM answers with coordinates (the paper's Table 6). How it writes them is declared here and
    never guessed: a wrong convention gives plausible figures."""

    box_format: AnswerFormat | None = None
    """Has no default."""
    frame: Frame = Frame.image
    cell_pixels: Count | None = None
    """Side of a cell of the patch grid in pixels of the model's input (Qwen2.5-VL: 28); for frame=input with a format
    in pixels."""

    def __post_init__(self) -> None:
        in_pixels = self.box_format in (AnswerFormat.xyxy, AnswerFormat.xywh, AnswerFormat.yxyx)
        require(
            (
                self.frame != Frame.input or not in_pixels or self.cell_pixels is not None,
                f"direct.box_format={self.box_format} with direct.frame=input needs direct.cell_pixels, the side of a "
                "cell in pixels of the model's input.",
            )
        )
