"""What is measured, and how the LVLM's own answers are read; kept apart, because the configuration loads before
everything."""

from dataclasses import dataclass, field

from locheads.data.choices import AnswerFormat, Frame
from locheads.errors import Rule


@dataclass
class EvaluationConfig:
    """Baselines and intervals."""

    random_draws: int = 10
    """Draws of k random heads that the baseline averages."""
    confidence: float = 0.95
    resamples: int = 2000
    """Sign flips of pictures behind the p of stage=compare; intervals need none."""
    gallery: int = 24
    """Samples shown in the report, evenly spaced over the split."""
    show: list[str] = field(default_factory=list)
    """Ids of samples to show besides."""


@dataclass
class DirectConfig:
    """stage=direct: the LVLM answers with coordinates (the paper's Table 6). How it writes them is stated here and
    never guessed: a wrong convention gives plausible figures."""

    box_format: AnswerFormat | None = None
    """Has no default."""
    frame: Frame = Frame.picture
    cell_pixels: int | None = None
    """Side of a cell of the patch grid in pixels of the model's input (Qwen2.5-VL: 28); for frame=input with a format
    in pixels."""
    max_new_tokens: int = 64


def evaluation_rules(e: EvaluationConfig) -> list[Rule]:
    """What types cannot say."""
    return [
        (e.random_draws >= 1, f"evaluation.random_draws must be at least 1, not {e.random_draws}."),
        (e.resamples >= 1, f"evaluation.resamples must be at least 1, not {e.resamples}."),
        (0 < e.confidence < 1, f"evaluation.confidence must lie between 0 and 1, not {e.confidence}."),
        (e.gallery >= 0, f"evaluation.gallery must not be negative, not {e.gallery}."),
    ]


def direct_rules(d: DirectConfig) -> list[Rule]:
    """What types cannot say, of stage=direct."""
    formats = ", ".join(AnswerFormat)
    in_pixels = d.box_format in (AnswerFormat.xyxy, AnswerFormat.xywh, AnswerFormat.yxyx)
    return [
        (d.box_format is not None, f"stage=direct needs direct.box_format, how the model writes boxes: {formats}."),
        (d.max_new_tokens >= 1, f"direct.max_new_tokens must be at least 1, not {d.max_new_tokens}."),
        (
            d.frame is not Frame.input or not in_pixels or (d.cell_pixels or 0) >= 1,
            f"direct.box_format={d.box_format} with direct.frame=input needs direct.cell_pixels, the side of a cell in "
            "pixels of the model's input.",
        ),
    ]
