"""The choices of the readers; kept apart from them, because the configuration loads before everything."""

from dataclasses import dataclass, field
from enum import StrEnum

from locheads.errors import Rule


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
    xywh_1000 = "xywh_1000"
    """As xywh, in thousandths (0 to 1000) of the picture's width and height."""
    xyxy_1000 = "xyxy_1000"
    """As xyxy, in thousandths (0 to 1000) of the picture's width and height (Qwen-VL, InternVL)."""


class AnswerFormat(StrEnum):
    """How an LVLM writes a box: four numbers as in `BoxFormat`, in brackets or parentheses, or location tokens."""

    xywh = "xywh"
    xyxy = "xyxy"
    xywh_relative = "xywh_relative"
    xyxy_relative = "xyxy_relative"
    xywh_1000 = "xywh_1000"
    xyxy_1000 = "xyxy_1000"
    loc = "loc"
    """Four tokens <loc0000> to <loc1023>: top, left, bottom, right in 1024ths (PaliGemma)."""


class Frame(StrEnum):
    """What an LVLM's coordinates refer to."""

    picture = "picture"
    """The original picture."""
    input = "input"
    """What the model sees: the square with its bars, the crop, the resized picture."""


class QueryLength(StrEnum):
    """Which queries of ReasonSeg are read."""

    all = "all"
    short = "short"
    """Phrases (`is_sentence` false)."""
    long = "long"
    """Sentences."""


@dataclass
class PredictionsConfig:
    """How a file of predictions is written (`predictions=FILE`)."""

    box_format: BoxFormat | None = None
    """Has no default, because a wrong one gives plausible figures. A file of masks alone needs none."""
    id: str = "id"
    """Key (JSONL) or column (CSV) that holds the sample id."""
    box: str = "box"
    """Key or column of the box: four numbers, or null (CSV: empty) where nothing was answered. Four columns of a CSV
    are named with commas: x0,y0,x1,y1."""
    mask: str = "mask"
    """Key or column of the mask: COCO polygons or run-length code."""


WHERE_IT_LIES = ("folder", "images", "links", "check_images", "test_splits")
"""Settings of a data set that do not change what is read of it."""


@dataclass
class DatasetConfig:
    """Referring expressions with boxes and masks."""

    name: str = "pocket"
    reader: str = "pocket"
    """"pocket" (made at first use), "refer", "hub", "reasonseg", "coco" or "jsonl": see docs/data.md."""
    folder: str = ""
    """Folder with the annotation files. For "hub": a local copy of its parquet files; empty to download."""
    refs: str = "refs(unc).p"
    """File with the expressions: REFER's, or your own (jsonl: with {split} in its name)."""
    instances: str = "instances.json"
    """COCO json of your own annotations (only reader=coco)."""
    images: str = ""
    """Folder with the COCO pictures."""
    links: list[str] = field(default_factory=list)
    """Folders outside of `folder` and `images` that links in these may lead to."""
    coco_names: bool = False
    """Pictures of your own that are named by numbers (000000000009.jpg) are COCO's: the leakage guard takes the
    numbers for COCO ids (reader=coco or jsonl)."""
    mask_threshold: int | None = None
    """Of mask pictures the pixels brighter than this (0 to 254) are the object; null: they must be black and one other
    colour (only reader=jsonl)."""
    hub: str = ""
    """Hub id (only reader=hub)."""
    revision: str | None = None  # commit of the hub data set, as for a model
    columns: dict[str, str] = field(default_factory=dict)
    """Where a hub copy's row holds what: src/locheads/data/columns.py."""
    split_names: dict[str, str] = field(default_factory=dict)
    """Official name of a split: what the hub copy calls it."""
    box_format: BoxFormat = BoxFormat.xywh
    """How the boxes of a hub copy or of your own JSONL are written."""
    query: QueryLength = QueryLength.all  # only reader=reasonseg
    notes: list[str] = field(default_factory=list)
    """Known defects of a hub copy: logged and recorded whenever it is used."""
    official: str = ""
    """"refcoco/unc" and the like: counts are checked against split_counts.csv."""
    guard: list[str] = field(default_factory=lambda: ["beside"])
    """Whose evaluated pictures discovery must not see, besides the evaluated split's: src/locheads/data/guard.py."""
    split: str = "val"
    """The split that is evaluated."""
    discovery_split: str = "train"
    test_splits: list[str] = field(default_factory=lambda: ["testA", "testB", "test"])
    """Splits on which nothing may be chosen: stage=audit refuses them."""
    limit: int | None = None
    """At most this many expressions of the evaluated split, the first in order."""
    offset: int = 0
    """Leaves out this many expressions before the limit counts."""
    shuffle: bool = False
    """Offset and limit count in a random order of the pictures (drawn with `seed`), not in the file's."""
    check_images: bool = False
    """stage=check opens every picture; takes minutes."""


def dataset_rules(d: DatasetConfig) -> list[Rule]:
    """What types cannot say."""
    return [
        (d.limit is None or d.limit >= 1, f"dataset.limit must be at least 1, not {d.limit}."),
        (
            d.mask_threshold is None or 0 <= d.mask_threshold <= 254,
            f"dataset.mask_threshold must be 0 to 254, not {d.mask_threshold}.",
        ),
        (d.offset >= 0, f"dataset.offset must not be negative, not {d.offset}."),
    ]
