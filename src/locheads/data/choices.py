"""The choices of the readers; kept apart from them, because the configuration loads before everything."""

from enum import StrEnum


class BoxFormat(StrEnum):
    """Four numbers of a box."""

    xywh = "xywh"
    """Left, top, width, height in pixels (COCO, REFER)."""
    xyxy = "xyxy"
    """Left, top, right, bottom in pixels, right and bottom exclusive."""
    xywh_relative = "xywh_relative"
    """As xywh, in shares (0 to 1) of the picture's width and height."""
    xyxy_relative = "xyxy_relative"
    """As xyxy, in shares (0 to 1) of the picture's width and height."""


class Query(StrEnum):
    """Which queries of ReasonSeg are read."""

    all = "all"
    short = "short"
    """Phrases (`is_sentence` false)."""
    long = "long"
    """Sentences."""
