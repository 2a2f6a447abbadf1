"""What the settings of the data set, and of a file of predictions that was scored, say in a methods paragraph."""

from typing import Any

from locheads.absence.config import AbsenceScore
from locheads.config import Stage
from locheads.data.config import (
    MADE,
    Absent,
    AnswerFormat,
    Asked,
    BoxFormat,
    BoxReading,
    Expressions,
    Frame,
    Phrases,
    PngReading,
    PointFormat,
    QueryLength,
    Reader,
)
from locheads.data.guard import BESIDE
from locheads.report.dossier.choice import (
    ASKS_MODEL,
    GROUNDS,
    USES_HEADS,
    Choice,
    Look,
    Not,
    Only,
    Where,
    filled,
    shown,
)

BESIDE_WORDS = "the files of refs in the data set's folder and in those beside it"
_CORNERS = "left, top, right, bottom"
BOXES = {
    BoxFormat.xywh: "left, top, width, height in pixels",
    BoxFormat.xyxy: f"{_CORNERS} in pixels",
    BoxFormat.yxyx: "top, left, bottom, right in pixels",
    BoxFormat.xywh_relative: "left, top, width, height as shares (0 to 1) of width and height",
    BoxFormat.xyxy_relative: f"{_CORNERS} as shares (0 to 1) of width and height",
    BoxFormat.yxyx_relative: "top, left, bottom, right as shares (0 to 1) of width and height",
    BoxFormat.xyxy_100: f"{_CORNERS} in hundredths (0 to 100) of width and height",
    BoxFormat.xywh_1000: "left, top, width, height in thousandths (0 to 1000) of width and height",
    BoxFormat.xyxy_1000: f"{_CORNERS} in thousandths (0 to 1000) of width and height",
    BoxFormat.yxyx_1000: "top, left, bottom, right in thousandths (0 to 1000) of width and height",
    BoxFormat.xyxy_999: f"{_CORNERS} from 0 to 999, where 999 is the right or bottom border",
    BoxFormat.yxyx_1024: "top, left, bottom, right in 1024ths (0 to 1023) of width and height",
}
"""How the four numbers of a box are to be read."""
POINTS = {
    PointFormat.xy: "left, top in pixels",
    PointFormat.xy_relative: "left, top as shares (0 to 1) of width and height",
    PointFormat.xy_100: "left, top in hundredths (0 to 100) of width and height",
    PointFormat.xy_1000: "left, top in thousandths (0 to 1000) of width and height",
}
FRAMES = {
    Frame.image: "They refer to the original image.",
    Frame.padded_square: "They refer to the square that two bars make of the image.",
    Frame.input: "They refer to the input that the model's processor makes of the image.",
}
_DIRECT: Where = {"stage": Only((Stage.direct,)), "predictions": Only((None,))}
_DISCOVERS: Where = {**USES_HEADS, "heads.set": Only((None,))}
_CALIBRATES: Where = {**GROUNDS, "absence.score": Not((AbsenceScore.off, False), AbsenceScore.peak)}


def _of(*readers: Reader) -> tuple[Where, ...]:
    return ({"dataset.reader": Only(readers)},)


_REFER, _POCKET = (Reader.refer, Reader.grefcoco), MADE
FORMS = {
    Reader.agd20k: "It is read in the form of AGD20K.",
    Reader.coco: "It is read as a COCO file with a file of expressions.",
    Reader.flickr30k: "It is read in the form of Flickr30k Entities.",
    Reader.grefcoco: "It is read in the form of gRefCOCO.",
    Reader.hub: "It is read from parquet files of the Hugging Face hub.",
    Reader.jsonl: "It is read from JSON lines.",
    Reader.pocket: "It consists of synthetic scenes that were made for the run, in the form of REFER.",
    Reader.pocket_counts: "It consists of synthetic scenes that were made for the run, in the form of gRefCOCO.",
    Reader.pocket_flickr30k: "It consists of synthetic scenes made for the run, in the form of Flickr30k Entities.",
    Reader.pocket_paraphrases: "It consists of synthetic scenes with paraphrases, made for the run in REFER's form.",
    Reader.pocket_png: "It consists of synthetic scenes made for the run, in the form of Panoptic Narrative Grounding.",
    Reader.pocket_small: "It consists of synthetic scenes of small objects made for the run, in the form of REFER.",
    Reader.png: "It is read in the form of Panoptic Narrative Grounding.",
    Reader.reasonseg: "It is read in the form of ReasonSeg.",
    Reader.refer: "It is read in the form of REFER (refs and COCO instances).",
    Reader.screenspot: "It is read in the form of ScreenSpot.",
}


def _reader(value: Any, _: Look) -> str:
    return FORMS.get(value) or f"It is read by the user's own reader {shown(value)}."


def _guard(value: Any, _: Look) -> str:
    if not value:
        return "Besides those of the evaluated split, discovery leaves out no images."
    files = [BESIDE_WORDS if entry == BESIDE else shown(entry) for entry in value]
    return f"Discovery leaves out the images that are evaluated in {', '.join(files)} (the guard against leakage)."


DATA = (
    Choice("dataset.name", filled("The settings call the data set {}.")),
    Choice("dataset.reader", _reader),
    Choice(
        "dataset.refs",
        filled("Its expressions are those of {}."),
        _of(*_REFER, *_POCKET, Reader.jsonl, Reader.coco, Reader.screenspot),
    ),
    Choice("dataset.instances", filled("Its annotations are those of {}."), _of(*_REFER, Reader.coco)),
    Choice(
        "dataset.review",
        filled("Which expressions are faulty is taken from {}.", "No review of its expressions was read."),
        _of(Reader.refer),
    ),
    Choice(
        "dataset.coco_names",
        {
            True: "Images that are named by numbers are taken for COCO's, whose ids the guard compares.",
            False: "Images that are named by numbers are not taken for COCO's.",
        },
        _of(Reader.coco, Reader.jsonl),
    ),
    Choice(
        "dataset.mask_threshold",
        filled("Of a mask image the pixels brighter than {} are the object.", "Mask images are black and one colour."),
        _of(Reader.jsonl),
    ),
    Choice("dataset.hub", filled("Its repository on the hub is {}."), _of(Reader.hub)),
    Choice(
        "dataset.revision",
        filled("Its revision is pinned to {}.", "No revision of that repository is pinned."),
        _of(Reader.hub),
    ),
    Choice("dataset.columns", filled("Its columns are read as {}."), _of(Reader.hub)),
    Choice(
        "dataset.split_names",
        filled("Its splits are named {}.", "Its splits have their official names."),
        _of(Reader.hub),
    ),
    Choice(
        "dataset.box_format",
        {form: f"Its boxes are {text}." for form, text in BOXES.items()},
        _of(Reader.hub, Reader.screenspot, Reader.jsonl),
    ),
    Choice(
        "dataset.query",
        {
            QueryLength.all: "Queries of any length are asked.",
            QueryLength.short: "Only short queries (phrases) are asked.",
            QueryLength.long: "Only long queries (sentences) are asked.",
        },
        _of(Reader.reasonseg),
    ),
    Choice("dataset.template", filled("An affordance is asked for as {}."), _of(Reader.agd20k)),
    Choice(
        "dataset.affordances",
        filled("The phrases of the affordances are {}.", "Affordances have their own names."),
        _of(Reader.agd20k),
    ),
    Choice(
        "dataset.expressions",
        {
            Expressions.all: "Every expression of an object counts.",
            Expressions.first: "Only the first expression of an object counts, as it was typed, in lower case.",
        },
        _of(Reader.refer, Reader.pocket),
    ),
    Choice(
        "dataset.asked",
        {
            Asked.alone: "Each expression is asked alone.",
            Asked.in_text: "Each expression is asked within the text that it is a part of.",
        },
        (ASKS_MODEL,),
    ),
    Choice(
        "dataset.boxes",
        {
            BoxReading.any: "Where an entity has several boxes, each of them is right.",
            BoxReading.merged: "Where an entity has several boxes, the box around them is right.",
        },
        _of(Reader.flickr30k, Reader.pocket_flickr30k),
    ),
    Choice(
        "dataset.phrases",
        {
            Phrases.given: "A phrase of a narrative is asked as it is.",
            Phrases.nouns: "Of a phrase of a narrative its last noun is asked (textblob's tagger).",
        },
        _of(Reader.png, Reader.pocket_png),
    ),
    Choice(
        "dataset.reading",
        {
            PngReading.original: "Phrases and masks are read as in the evaluation of the data set's authors.",
            PngReading.flmm: "Phrases and masks are read as in the evaluation of F-LMM.",
            PngReading.groundlmm: "Phrases and masks are read as in the evaluation of groundLMM.",
        },
        _of(Reader.png, Reader.pocket_png),
    ),
    Choice("dataset.notes", filled("Known of this copy are {}.", "No defects of this copy are noted.")),
    Choice(
        "dataset.official",
        filled("Its counts were checked against the published ones of {}.", "Its counts are compared with no others."),
    ),
    Choice("dataset.guard", _guard, (_DISCOVERS, _CALIBRATES)),
    Choice("dataset.split", filled("The evaluated split is {}.")),
    Choice("dataset.discovery_split", filled("The split for discovery is {}."), (_DISCOVERS, _CALIBRATES)),
    Choice("dataset.test_splits", filled("Nothing may be chosen on {}.", "No split is kept from being chosen on.")),
    Choice(
        "dataset.limit",
        filled("Of the evaluated split {} expressions count at most.", "All expressions of the split count."),
    ),
    Choice(
        "dataset.offset",
        lambda value, _: (
            f"The first {value:,} expressions are left out." if value else "No expression before them is left out."
        ),
    ),
    Choice(
        "dataset.shuffle",
        {
            False: "The order is the file's.",
            True: "The order is a random one of the images, drawn with the seed.",
        },
    ),
    Choice(
        "dataset.absent",
        {
            Absent.none: "No expression is added about images that lack what it names.",
            Absent.swapped: "Every expression is also asked about another image that has no annotated object of its "
            "category.",
            Absent.swapped_named: "Every expression that names its category is also asked about another image that has "
            "no annotated object of it.",
        },
    ),
)

PREDICTIONS = (
    Choice("predictions", filled("What is scored are the answers in the file {}, which no head gave.")),
    Choice(
        "predictions_format.box_format",
        {
            None: "No format of boxes is declared of the file.",
            **{form: f"Its boxes are {text}." for form, text in BOXES.items()},
        },
    ),
    Choice(
        "predictions_format.point_format",
        {None: "It holds no points.", **{form: f"Its points are {text}." for form, text in POINTS.items()}},
    ),
    Choice("predictions_format.frame", FRAMES),
    Choice(
        "predictions_format.side",
        filled("The square that the model saw has a side of {} pixels.", "The side of the model's square is not set."),
    ),
    Choice(
        "predictions_format.multiple",
        filled("The processor makes both sides multiples of {} pixels.", "The sides need be multiples of nothing."),
    ),
    Choice("predictions_format.min_pixels", filled("The model's input has at least {} pixels.")),
    Choice("predictions_format.max_pixels", filled("The model's input has at most {} pixels.")),
    Choice("predictions_format.id", filled("Samples are named under {}.")),
    Choice("predictions_format.box", filled("Boxes stand under {}.")),
    Choice("predictions_format.scores", filled("Scores of boxes stand under {}.", "Scores of boxes are not read.")),
    Choice(
        "predictions_format.min_score",
        filled("Where expressions may name several objects or none, boxes with a score of at least {} are the answer."),
    ),
    Choice("predictions_format.mask", filled("Masks stand under {}.")),
)

DIRECT = (
    Choice(
        "direct.box_format",
        {
            None: "How the model writes boxes is not declared.",
            **{
                form: f"The model writes a box as four tokens <loc0000> to <loc1023>, {BOXES[form.box_format]}."
                if form == AnswerFormat.loc
                else f"The model writes a box as {BOXES[form.box_format]}."
                for form in AnswerFormat
            },
        },
        (_DIRECT, {"prompt.query": Only(("answer_numbers",))}),
    ),
    Choice("direct.frame", FRAMES, (_DIRECT, {"prompt.query": Only(("answer_numbers",))})),
    Choice(
        "direct.cell_pixels",
        filled("A cell of the patch grid has a side of {} pixels of that input.", "No size of a cell is declared."),
        (_DIRECT,),
    ),
)
