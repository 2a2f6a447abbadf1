"""What the settings from the maps to the answer say in a methods paragraph: the box, the mask, further looks, and the
answer that nothing is there."""

from typing import Any

from locheads.absence.config import AbsenceRule, AbsenceScore
from locheads.grounding.config import (
    LEVELS,
    SMOOTHING_SIDE,
    Border,
    BoxRule,
    CandidateScore,
    Component,
    Contrast,
    MaskRule,
    Normalise,
    Padding,
    Resolution,
    Rounding,
    Sinks,
    SmoothingScale,
    StandOut,
    ThresholdRule,
    Upsampling,
)
from locheads.grounding.contrast import PROBES
from locheads.grounding.zoom_config import Centre, Combine, Shape, Window
from locheads.report.dossier.choice import Choice, Look, Not, Only, Where, filled, of_one, shown

_SMOOTHS: Where = {"grounding.sigma": Not((0,), 1.0)}
_LOOKS: Where = {"zoom.looks": Not((0,), 1)}
_SCORES: Where = {"absence.score": Not((AbsenceScore.off, False), AbsenceScore.peak)}
_CALIBRATES: Where = {**_SCORES, "absence.threshold": Only((None,))}


TIES = "Of components, and of cells of a map, that tie, the first in reading order counts."


def _with(where: Where, key: str, *values: Any) -> tuple[Where, ...]:
    return ({**where, key: Only(values)},)


def _sigma(value: Any, _: Look) -> str:
    return f"Each map is smoothed by a Gaussian of sigma {shown(value)}." if value else "Maps are not smoothed."


def _level(value: Any, look: Look) -> str:
    rule = look("grounding.threshold")
    if value is not None:
        return f"The level is {shown(value)}."
    return f"The level is {shown(LEVELS[rule])}, the rule's default." if rule in LEVELS else "The level is the default."


GROUNDING = (
    Choice("grounding.name", filled("The settings call the steps from the maps to the box {}.")),
    Choice(
        "grounding.contrast",
        {
            Contrast.none: "Nothing is subtracted from a map.",
            Contrast.others: "From each map the mean of the same head's maps for the image's expressions of other "
            "objects is subtracted, and what is below 0 is cut.",
            Contrast.probes: "From each map the mean of the same head's maps for four questions of place "
            f"({', '.join(PROBES)}) is subtracted, and what is below 0 is cut.",
        },
    ),
    Choice(
        "grounding.sinks",
        {
            Sinks.keep: "No cell is set to zero.",
            Sinks.mean_map: "Cells are set to zero where the head's mean map over the discovery samples stands out.",
            Sinks.border_rows: "The first and the last row are set to zero.",
        },
    ),
    Choice(
        "grounding.sink_factor",
        filled("A cell stands out where the mean map exceeds {} times its own mean."),
        _with({}, "grounding.sinks", Sinks.mean_map),
    ),
    Choice(
        "grounding.normalise",
        {
            Normalise.none: "Maps are summed as they are.",
            Normalise.sum: "Each map is divided by its sum first.",
            Normalise.max: "Each map is divided by its largest weight first.",
        },
    ),
    Choice("grounding.sigma", _sigma),
    Choice("grounding.kernel", filled("The Gaussian's window is {} wide."), (_SMOOTHS,)),
    Choice(
        "grounding.smoothing_scale",
        {
            SmoothingScale.cells: "Both are counted in cells of the model's own grid.",
            SmoothingScale.grid: f"Both are counted in cells of a grid whose longer side has {SMOOTHING_SIDE}.",
        },
        (_SMOOTHS,),
    ),
    Choice(
        "grounding.border",
        {
            Border.mirror: "Beyond its border a map is mirrored about its outermost cells (d c b, a b c d, c b a).",
            Border.reflect: "Beyond its border a map is mirrored about its edge (d c b a, a b c d, d c b a).",
            Border.nearest: "Beyond its border a map continues with its outermost cells (a a a, a b c d, d d d).",
            Border.constant: "Beyond its border a map is zero.",
        },
        (_SMOOTHS,),
    ),
    Choice(
        "grounding.resolution",
        {
            Resolution.grid: "The threshold applies on the model's grid.",
            Resolution.input: "The threshold applies to the map upsampled to the model's input, bars included.",
            Resolution.image: "The threshold applies to the map upsampled to the pixels of the original image.",
        },
    ),
    Choice(
        "grounding.upsampling",
        {
            Upsampling.nearest: "The map is upsampled by the nearest cell.",
            Upsampling.bilinear: "The map is upsampled bilinearly.",
            Upsampling.bicubic: "The map is upsampled bicubically.",
        },
        _with({}, "grounding.resolution", Resolution.input, Resolution.image),
    ),
    Choice(
        "grounding.input_patch",
        filled("A cell has a side of {} pixels of the input there."),
        _with({}, "grounding.resolution", Resolution.input),
    ),
    Choice(
        "grounding.threshold",
        {
            ThresholdRule.mean: "Foreground are the cells of the summed map above the level times its mean.",
            ThresholdRule.otsu: "Foreground are the cells of the summed map above Otsu's threshold.",
            ThresholdRule.quantile: "Foreground are the cells of the summed map above the quantile of the level.",
            ThresholdRule.max_fraction: "Foreground are the cells of the summed map above the level times its maximum.",
            ThresholdRule.fixed_area: "Foreground are the strongest cells of the summed map, a share of the level.",
        },
    ),
    Choice(
        "grounding.level",
        _level,
        ({"grounding.threshold": Not((ThresholdRule.otsu,), ThresholdRule.mean)},),
    ),
    Choice(
        "grounding.component",
        {
            Component.largest_hull: "The object is the 8-connected component with the largest convex hull.",
            Component.largest_area: "The object is the 8-connected component with the most cells.",
            Component.largest_mass: "The object is the 8-connected component with the largest sum of the map.",
            Component.highest_peak: "The object is the 8-connected component that holds the map's maximum.",
            Component.all_cells: "The object is all of the foreground (as in the released code C1).",
        },
    ),
    Choice(
        "grounding.box",
        {
            BoxRule.hull: "The box is the tight one around the convex hull of its cells as squares.",
            BoxRule.component: "The box is the tight one around its cells as squares.",
            BoxRule.cell_centres: "The box is the tight one around the indices of its cells.",
            BoxRule.mass_quantiles: "The box holds, along each axis, the middle part of its cells' weight.",
        },
    ),
    Choice(
        "grounding.mass",
        filled("That part is a share of {}."),
        _with({}, "grounding.box", BoxRule.mass_quantiles),
    ),
    Choice(
        "grounding.padding",
        {
            Padding.mapped: "Cells become pixels by the exact inverse of the preprocessing.",
            Padding.ignored: "Cells become pixels as if the grid were the whole image (as in the released code C1).",
        },
    ),
    Choice(
        "grounding.rounding",
        {
            Rounding.none: "The box is not rounded to pixels.",
            Rounding.truncated: "The box is truncated to whole pixels, the last of which belongs to it (as in the "
            "released code C1).",
        },
    ),
    Choice(
        "grounding.clamp",
        {True: "It ends where the image does.", False: "It may reach beyond the image, onto padding bars."},
    ),
    Choice(
        "grounding.mask",
        {
            MaskRule.all_cells: "The pseudo-mask is all of the foreground.",
            MaskRule.box_cells: "The pseudo-mask is the cells that made the box.",
        },
    ),
    Choice(
        "grounding.candidate_score",
        {
            CandidateScore.mass: "Where an expression may name several objects, components are scored by their share "
            "of the best one's sum of the map.",
            CandidateScore.peak: "Where an expression may name several objects, components are scored by their share "
            "of the best one's maximum of the map.",
            CandidateScore.area: "Where an expression may name several objects, components are scored by their share "
            "of the best one's cells.",
        },
    ),
    Choice(
        "grounding.stand_out",
        {
            StandOut.share: "Of them those with a certain share or more are the answer.",
            StandOut.best: "Of them the best alone is the answer.",
            StandOut.all: "All of them are the answer.",
        },
    ),
    Choice(
        "grounding.stand_out_share",
        filled("That share is {}."),
        _with({}, "grounding.stand_out", StandOut.share),
    ),
)

ZOOM = (
    Choice("zoom.name", filled("The settings call the further looks {}.")),
    Choice(
        "zoom.looks",
        lambda value, _: (
            "The model looks at each image once, for each expression."
            if not value
            else f"After the first look the model is asked {shown(value)} more time{'s' * (value > 1)} about a part of "
            "the image."
        ),
    ),
    Choice(
        "zoom.window",
        {
            Window.box: "That part is the answer's box with a margin.",
            Window.share: "That part is a share of the width and height of what was seen last.",
            Window.pixels: "That part is a square of a fixed side.",
            Window.drop: "That part is a square of a fixed side times 1, 1.2, ... 2, about most of the map; that of "
            "these whose map falls off most sharply.",
        },
        (_LOOKS,),
    ),
    Choice(
        "zoom.margin",
        filled("The margin is a share of {} of the box on each side."),
        _with(_LOOKS, "zoom.window", Window.box),
    ),
    Choice(
        "zoom.shape",
        {
            Shape.square: "It is widened to a square.",
            Shape.image: "It is widened to the image's shape.",
            Shape.box: "It keeps the box's shape.",
        },
        _with(_LOOKS, "zoom.window", Window.box),
    ),
    Choice("zoom.share", filled("Those shares are {}."), _with(_LOOKS, "zoom.window", Window.share)),
    Choice("zoom.side", filled("That side is {} pixels."), _with(_LOOKS, "zoom.window", Window.pixels, Window.drop)),
    Choice("zoom.least", of_one("It has at least {} pixels a side.", "It has at least 1 pixel a side."), (_LOOKS,)),
    Choice(
        "zoom.centre",
        {
            Centre.box: "Its centre is that of the answer's box.",
            Centre.peak: "Its centre is the peak of the summed map.",
        },
        ({**_LOOKS, "zoom.window": Not((Window.drop,), Window.box)},),
    ),
    Choice(
        "zoom.combine",
        {
            Combine.second: "The last look's answer counts.",
            Combine.attention: "The last look's answer counts, unless its heads spend too little attention on it.",
            Combine.mean: "The answer is that of the mean of the maps of all looks.",
            Combine.product: "The answer is that of the geometric mean of the maps of all looks.",
        },
        (_LOOKS,),
    ),
    Choice(
        "zoom.keep",
        filled("Too little is less than {} times that on the whole image."),
        _with(_LOOKS, "zoom.combine", Combine.attention),
    ),
)

ABSENCE = (
    Choice(
        "absence.score",
        {
            AbsenceScore.off: "An answer is given to every expression.",
            AbsenceScore.peak: "That nothing is there is told by the summed map's mean over its maximum.",
            AbsenceScore.entropy: "That nothing is there is told by the summed map's entropy over that of a flat map.",
            AbsenceScore.mass: "That nothing is there is told by 1 - the heads' mean attention sum.",
            AbsenceScore.agreement: "That nothing is there is told by 1 - the overlap of the heads' maps.",
            AbsenceScore.scatter: "That nothing is there is told by the distance between the heads' peaks.",
            AbsenceScore.others: "That nothing is there is told by how much of the summed map is that of the image's "
            "other expressions, too.",
            AbsenceScore.probes: "That nothing is there is told by how much of the summed map is that of questions of "
            f"place ({', '.join(PROBES)}), too.",
            AbsenceScore.calibrated: "That nothing is there is told by the score with the largest AUROC on the "
            "calibration samples.",
        },
    ),
    Choice(
        "absence.threshold",
        filled(
            "From a score of {} on the answer is that nothing is there.",
            "The score from which on the answer is that nothing is there is worked out on calibration samples.",
        ),
        (_SCORES,),
    ),
    Choice(
        "absence.rule",
        {
            AbsenceRule.equal_error: "It is that at which both kinds of error are as equal as can be.",
            AbsenceRule.youden: "It is that at which N-acc + T-acc is largest (Youden's).",
            AbsenceRule.false_alarm: "It is that of the largest N-acc with few false alarms.",
        },
        (_CALIBRATES,),
    ),
    Choice(
        "absence.false_alarm",
        filled("Few is a share of {} at most."),
        _with(_CALIBRATES, "absence.rule", AbsenceRule.false_alarm),
    ),
    Choice(
        "absence.images",
        of_one(
            "The calibration samples are those of {} images of the discovery split.",
            "The calibration samples are those of 1 image of the discovery split.",
        ),
        (_CALIBRATES,),
    ),
)
