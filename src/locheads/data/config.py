"""The choices of the readers; kept apart from them, because the configuration loads before everything."""

from dataclasses import field
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from locheads.dotted import is_dotted
from locheads.settings import Count, Natural, Text, require, settings


class BoxFormat(StrEnum):
    """Four numbers of a box: their order, then their unit. Which model writes what: docs/metrics.md."""

    xywh = "xywh"
    """Left, top, width, height in pixels (COCO, REFER)."""
    xyxy = "xyxy"
    """Left, top, right, bottom in pixels, right and bottom exclusive."""
    yxyx = "yxyx"
    """Top, left, bottom, right in pixels."""
    xywh_relative = "xywh_relative"
    """As xywh, in shares (0 to 1) of the frame's width and height."""
    xyxy_relative = "xyxy_relative"
    yxyx_relative = "yxyx_relative"
    xyxy_100 = "xyxy_100"
    """In hundredths (0 to 100)."""
    xywh_1000 = "xywh_1000"
    """In thousandths (0 to 1000)."""
    xyxy_1000 = "xyxy_1000"
    yxyx_1000 = "yxyx_1000"
    xyxy_999 = "xyxy_999"
    """0 to 999, where 999 is the right or bottom border."""
    yxyx_1024 = "yxyx_1024"
    """In 1024ths (0 to 1023)."""


class AnswerFormat(StrEnum):
    """How an LVLM writes a box in words: the numbers of a `BoxFormat`, or location tokens."""

    xywh = "xywh"
    xyxy = "xyxy"
    yxyx = "yxyx"
    xywh_relative = "xywh_relative"
    xyxy_relative = "xyxy_relative"
    yxyx_relative = "yxyx_relative"
    xyxy_100 = "xyxy_100"
    xywh_1000 = "xywh_1000"
    xyxy_1000 = "xyxy_1000"
    yxyx_1000 = "yxyx_1000"
    xyxy_999 = "xyxy_999"
    yxyx_1024 = "yxyx_1024"
    loc = "loc"
    """Four tokens <loc0000> to <loc1023>: yxyx_1024 (PaliGemma)."""

    @property
    def box_format(self) -> BoxFormat:
        return BoxFormat.yxyx_1024 if self == AnswerFormat.loc else BoxFormat(self.value)


class PointFormat(StrEnum):
    """Two numbers of a point, left then top."""

    xy = "xy"
    """In pixels."""
    xy_relative = "xy_relative"
    xy_100 = "xy_100"
    """In hundredths (0 to 100), with fractions."""
    xy_1000 = "xy_1000"

    @property
    def box_format(self) -> BoxFormat:
        """The boxes whose corners are such points."""
        return BoxFormat(self.replace("xy", "xyxy"))


class Frame(StrEnum):
    """What coordinates refer to."""

    image = "image"
    """The original image."""
    padded_square = "padded_square"
    """The image between two bars that make it square (LLaVA-1.5)."""
    input = "input"
    """What the model's processor makes of the image: the crop, the resized image."""


class Reader(StrEnum):
    """Of which form a data set is: see docs/data.md."""

    agd20k = "agd20k"
    coco = "coco"
    flickr30k = "flickr30k"
    """Flickr30k Entities."""
    grefcoco = "grefcoco"
    hub = "hub"
    jsonl = "jsonl"
    pocket = "pocket"
    """REFER's form, made at first use."""
    pocket_counts = "pocket_counts"
    """gRefCOCO's form, made at first use: expressions that none, one or several of a scene's objects match."""
    pocket_flickr30k = "pocket_flickr30k"
    """Flickr30k Entities' form, made at first use."""
    pocket_paraphrases = "pocket_paraphrases"
    """REFER's form, made at first use: two expressions of an object without a common word."""
    pocket_png = "pocket_png"
    """The form of Panoptic Narrative Grounding, made at first use."""
    pocket_small = "pocket_small"
    """REFER's form, made at first use: eight small objects in a scene."""
    png = "png"
    """Panoptic Narrative Grounding."""
    reasonseg = "reasonseg"
    refer = "refer"
    screenspot = "screenspot"


MADE = (Reader.pocket, Reader.pocket_counts, Reader.pocket_paraphrases, Reader.pocket_small)
"""Pocket data in REFER's files, made at first use."""
OF_REFER_FORM = (*MADE, Reader.grefcoco, Reader.refer)
"""Their refs and images lie as REFER's do."""


class QueryLength(StrEnum):
    """Which queries of ReasonSeg are read."""

    all = "all"
    short = "short"
    """Phrases (`is_sentence` false)."""
    long = "long"
    """Sentences."""


class Absent(StrEnum):
    """Expressions that name nothing in their image, for a data set that has none (data/swapped.py)."""

    none = "none"
    swapped = "swapped"
    """Every expression once more, about another image without an annotated object of its category."""
    swapped_named = "swapped_named"
    """The same, only of expressions that name their category: others may fit what they were not said of."""


class Expressions(StrEnum):
    """Which expressions of a REFER data set are read."""

    all = "all"
    first = "first"
    """F-LMM's: of each object the first one, as it was typed (`raw`), in lower case; of several refs of one annotation
    the last (mmdet `refcoco.py`, text_mode=select_first)."""


class Asked(StrEnum):
    """How an expression is put into the prompt."""

    alone = "alone"
    in_text = "in_text"
    """The text that it is a part of: its caption, or the first expressions of all objects of the image one after the
    other. The query is the expression's own tokens."""


class BoxReading(StrEnum):
    """What is right where an entity of Flickr30k Entities has several boxes."""

    any = "any"
    """Each of them (MDETR, GLIP: "any box")."""
    merged = "merged"
    """The box around them ("merged boxes")."""


class Phrases(StrEnum):
    """What is asked of a phrase of a narrative."""

    given = "given"
    """All of it."""
    nouns = "nouns"
    """Its last noun, which textblob's tagger finds in the caption; all of it where there is none."""


class PngReading(StrEnum):
    """How Panoptic Narrative Grounding is scored: src/locheads/data/png.py."""

    original = "original"
    flmm = "flmm"
    groundlmm = "groundlmm"


CAPTIONED = (Reader.pocket_flickr30k, Reader.pocket_png)
"""Captions of the pocket scenes, made at first use."""
IN_TEXT = (*CAPTIONED, Reader.flickr30k, Reader.png, Reader.pocket, Reader.refer)
"""Readers that know the text around an expression."""


@settings("predictions_format")
class PredictionsConfig:
    """How a file of predictions is written (`predictions=FILE`)."""

    box_format: BoxFormat | None = None
    """Has no default, because a wrong one gives plausible figures. A file of masks alone needs none."""
    point_format: PointFormat | None = None
    """Where the file marks the objects by points instead: two numbers, or words, under `box`. Scored by pointing."""
    frame: Frame = Frame.image
    """What the coordinates refer to."""
    side: Count | None = None
    """Side in pixels of the square that the model sees: for formats in pixels with frame=padded_square or input."""
    multiple: Count | None = None
    """frame=input without a side: the processor keeps the aspect ratio and makes both sides multiples of this
    (Qwen2.5-VL: 28), ..."""
    min_pixels: Count = 1
    """... with at least this area ..."""
    max_pixels: Count = 2**31 - 1
    """... and at most this one, as the processor was set up when the model answered."""
    id: Text = "id"
    """Key (JSONL) or column (CSV) that holds the sample id."""
    box: Text = "box"
    """Key or column of the box: four numbers, a list of such boxes, the model's answer in words, or null (CSV: empty,
    nan) where nothing was answered. Four columns of a CSV are named with commas: x0,y0,x1,y1."""
    scores: str = "scores"
    """Key or column of the boxes' scores, where the file has any: a number per box; empty: they are not read. The box
    of the highest score is the single answer."""
    min_score: Annotated[float, Field(allow_inf_nan=False, description="must be a finite number")] = 0.7
    """Where expressions may name several objects or none, boxes of at least this score are the answer (gRefCOCO's own
    evaluation, `mdetr/datasets/refexp.py`: 0.7); without scores all are."""
    mask: str = "mask"
    """Key or column of the mask: COCO polygons or run-length code."""

    def __post_init__(self) -> None:
        form = self.box_format or self.point_format
        counts_pixels = form is not None and "_" not in form
        require(
            (
                self.min_pixels <= self.max_pixels,
                f"predictions_format.min_pixels ({self.min_pixels}) is above predictions_format.max_pixels "
                f"({self.max_pixels}): exchange them.",
            ),
            (
                self.box_format is None or self.point_format is None,
                "predictions_format.box_format and predictions_format.point_format are both set: a file holds boxes or "
                "points, so set one of them to null.",
            ),
            (
                self.frame != Frame.input or not counts_pixels or bool(self.side or self.multiple),
                f"predictions_format.frame=input with {form}, which counts pixels, needs the input's size: set "
                "predictions_format.multiple (Qwen2.5-VL: 28) with its min_pixels and max_pixels, or "
                "predictions_format.side.",
            ),
        )


WHERE_IT_LIES = ("folder", "images", "review", "links", "check_images", "test_splits")
"""Settings of a data set that do not change what is read of it; of the review's file the flags count."""


@settings("dataset")
class DatasetConfig:
    """Referring expressions with boxes and masks."""

    name: str = "pocket"
    reader: Text = "pocket"
    """A `Reader`, or a class of your own: package.module:Class (see own_reader.DataSetReader)."""
    folder: str = ""
    """Folder with the annotation files. For "hub": a local copy of its parquet files; empty to download."""
    refs: str = "refs(unc).p"
    """File with the expressions: REFER's, or your own (jsonl: with {split} in its name); of ScreenSpot a pattern."""
    review: str = ""
    """Ref-L4's review of the expressions, a file per split ({split} in its name): clean and faulty ones are reported
    apart. A split without such a file has no flags (only reader=refer)."""
    instances: str = "instances.json"
    """COCO json of the annotations (reader=coco, grefcoco or refer)."""
    images: str = ""
    """Folder with the COCO images."""
    links: list[str] = field(default_factory=list)
    """Folders outside of `folder` and `images` that links in these may lead to."""
    coco_names: bool = False
    """Images of your own that are named by numbers (000000000009.jpg) are COCO's: the leakage guard takes the
    numbers for COCO ids (reader=coco or jsonl)."""
    mask_threshold: Annotated[int | None, Field(ge=0, le=254, description="must be 0 to 254")] = None
    """Of mask images the pixels brighter than this (0 to 254) are the object; null: they must be black and one other
    colour (only reader=jsonl)."""
    hub: str = ""
    """Hub id (only reader=hub)."""
    revision: Text | None = None  # commit of the hub data set, as for a model
    columns: dict[str, str] = field(default_factory=dict)
    """Where a hub copy's row holds what: src/locheads/data/hub.py."""
    split_names: dict[str, str] = field(default_factory=dict)
    """Official name of a split: what the hub copy calls it."""
    box_format: BoxFormat = BoxFormat.xywh
    """How the boxes of a hub copy, of ScreenSpot or of your own JSONL are written."""
    query: QueryLength = QueryLength.all  # only reader=reasonseg
    template: str = "where does one {phrase}"
    """The expression about an affordance (only reader=agd20k): {phrase} is that of its affordance, ..."""
    affordances: dict[str, str] = field(default_factory=dict)
    """... by its name, such as hold: hold the {object}."""
    expressions: Expressions = Expressions.all  # only reader=refer or pocket
    asked: Asked = Asked.alone
    boxes: BoxReading = BoxReading.any  # only reader=flickr30k or pocket_flickr30k
    phrases: Phrases = Phrases.given  # only reader=png or pocket_png
    reading: PngReading = PngReading.original  # only reader=png or pocket_png
    notes: list[str] = field(default_factory=list)
    """Known defects of a hub copy: logged and recorded whenever it is used."""
    official: str = ""
    """"refcoco/unc" and the like: counts are checked against split_counts.csv."""
    guard: list[str] = field(default_factory=lambda: ["beside"])
    """Whose evaluated images discovery must not see, besides the evaluated split's: src/locheads/data/guard.py."""
    split: Text = "val"
    """The split that is evaluated."""
    discovery_split: Text = "train"
    test_splits: list[str] = field(default_factory=lambda: ["testA", "testB", "test"])
    """Splits on which nothing may be chosen: stage=audit refuses them."""
    limit: Count | None = None
    """At most this many expressions of the evaluated split, the first in order."""
    offset: Natural = 0
    """Leaves out this many expressions before the limit counts."""
    shuffle: bool = False
    """Offset and limit count in a random order of the images (drawn with `seed`), not in the file's."""
    absent: Absent = Absent.none
    """Whether expressions are asked about images that lack what they name, too."""
    check_images: bool = False
    """stage=check opens every image; takes minutes."""

    def __post_init__(self) -> None:
        known, others = self.reader in list(Reader) or is_dotted(self.reader), "or package.module:Class of your own"
        require(
            (known, f"dataset.reader={self.reader} is unknown: use one of {', '.join(Reader)}, {others}."),
            (
                self.asked == Asked.alone or self.reader in IN_TEXT,
                f"dataset.asked=in_text needs the text around the expressions, which dataset.reader={self.reader} does "
                f"not know: use dataset.asked=alone, or one of {', '.join(IN_TEXT)}.",
            ),
            (
                self.asked == Asked.alone
                or self.reader not in (Reader.pocket, Reader.refer)
                or self.expressions == Expressions.first,
                "dataset.asked=in_text joins the expressions of all objects of an image, one of each: add "
                "dataset.expressions=first.",
            ),
            (
                not self.review or "{split}" in self.review,
                f"dataset.review={self.review} has no {{split}}: write refcoco_{{split}}_reviewed.json, or alike.",
            ),
        )
