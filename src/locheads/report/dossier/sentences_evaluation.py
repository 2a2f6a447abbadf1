"""What the settings of the segmenter, of the evaluation and of the audit, and the run's own say in a methods
paragraph."""

from typing import Any

from locheads.audit.config import AuditMode
from locheads.config import Stage
from locheads.dependence.planted import Plant
from locheads.report.dossier.choice import Choice, Look, Not, Only, Where, filled, of_one, shown
from locheads.segmenters.config import (
    MaskChoice,
    Negatives,
    PointRule,
    PromptKind,
    SamSize,
    SegmenterKind,
)

_SEGMENTS: Where = {"segmenter.kind": Not((SegmenterKind.none, None), SegmenterKind.sam_hf)}
_SAM: Where = {
    "segmenter.kind": Not((SegmenterKind.none, SegmenterKind.box, SegmenterKind.grabcut, None), SegmenterKind.sam_hf),
}
_POINTS: Where = {**_SAM, "segmenter.prompt": Only((PromptKind.points, PromptKind.box_point))}
_INNER: Where = {**_POINTS, "segmenter.points": Only((PointRule.inner,))}
_BOXES: Where = {**_SAM, "segmenter.prompt": Not((PromptKind.points,), PromptKind.box)}
_EVALUATES = ({"stage": Only((Stage.report, Stage.evaluate, Stage.direct, Stage.audit, Stage.compare))},)
KINDS = {
    SegmenterKind.none: "Masks are the pseudo-masks.",
    SegmenterKind.box: "Masks are the boxes, filled.",
    SegmenterKind.grabcut: "Masks are those of OpenCV's GrabCut in the box.",
    SegmenterKind.sam_hf: "Masks are those of SAM as transformers has it.",
    SegmenterKind.segment_anything: "Masks are those of SAM as the package segment-anything has it.",
    SegmenterKind.sam2: "Masks are those of SAM 2 as transformers has it.",
}


def _kind(value: Any, _: Look) -> str:
    known = {kind.value: text for kind, text in KINDS.items()}
    return known.get(value, f"Masks are those of the user's own segmenter {shown(value)}.")


MASKS = (
    Choice("segmenter.name", filled("The settings call the segmenter {}.")),
    Choice("segmenter.kind", _kind),
    Choice("segmenter.checkpoint", filled("Its checkpoint is {}.", "It has no checkpoint."), (_SAM,)),
    Choice("segmenter.revision", filled("Its revision is pinned to {}.", "No revision of it is pinned."), (_SAM,)),
    Choice(
        "segmenter.size",
        {
            SamSize.vit_b: "A .pth file of its weights is of the size ViT-B.",
            SamSize.vit_l: "A .pth file of its weights is of the size ViT-L.",
            SamSize.vit_h: "A .pth file of its weights is of the size ViT-H.",
        },
        ({"segmenter.kind": Only((SegmenterKind.sam_hf, SegmenterKind.segment_anything))},),
    ),
    Choice(
        "segmenter.prompt",
        {
            PromptKind.box: "It is asked with the box.",
            PromptKind.box_point: "It is asked with the box and points.",
            PromptKind.points: "It is asked with points only.",
            PromptKind.mask: "It is asked with the box and the pseudo-mask as low-resolution logits.",
        },
        (_SAM,),
    ),
    Choice(
        "segmenter.multimask",
        {False: "It gives its single mask.", True: "It proposes three masks."},
        (_SAM,),
    ),
    Choice(
        "segmenter.choice",
        {
            MaskChoice.score: "The one that it rates best itself is taken.",
            MaskChoice.overlap: "The one with the largest IoU with the pseudo-mask is taken.",
            MaskChoice.last: "The third is taken.",
        },
        ({**_SAM, "segmenter.multimask": Only((True,))},),
    ),
    Choice(
        "segmenter.points",
        {
            PointRule.peak: "The point on the object is the summed map's peak.",
            PointRule.inner: "The points on the object are inner ones of the pseudo-mask in the box.",
            PointRule.high: "The points on the object are the cells that reach 0.9 of the way from the summed map's "
            "lowest to its highest.",
        },
        (_POINTS,),
    ),
    Choice(
        "segmenter.n_points",
        of_one("There are {} of them.", "There is 1 of them."),
        (_INNER,),
    ),
    Choice(
        "segmenter.depth",
        filled("None is nearer to the pseudo-mask's border than a share of {} of the largest distance a pixel has."),
        (_INNER,),
    ),
    Choice(
        "segmenter.negatives",
        {
            Negatives.none: "No point beside the object is given.",
            Negatives.lowest: "As many of the summed map's lowest cells are given as points beside the object.",
        },
        (_POINTS,),
    ),
    Choice("segmenter.margin", filled("The box is widened by a share of {} on each side."), (_BOXES,)),
    Choice("segmenter.margin_pixels", filled("It is widened by {} pixels on each side."), (_BOXES,)),
    Choice(
        "segmenter.rounds",
        of_one("It is asked {} times, from the second on with the tight box of the mask before.", "It is asked once."),
        (_SAM,),
    ),
    Choice(
        "segmenter.round_margin",
        filled("That box is widened by a share of {} on each side."),
        ({**_SAM, "segmenter.rounds": Not((1,), 2)},),
    ),
    Choice(
        "segmenter.box",
        {
            False: "The box of the answer stays as it is.",
            True: "The box of the answer becomes the tight box of the mask.",
        },
        (_SEGMENTS,),
    ),
)

EVALUATION = (
    Choice(
        "evaluation.random_draws",
        of_one("The baseline of random heads is the mean of {} draws.", "The baseline of random heads is 1 draw."),
        ({"predictions": Only((None,)), "stage": Only((Stage.report, Stage.evaluate))},),
    ),
    Choice("evaluation.confidence", filled("Intervals have the level {}."), _EVALUATES),
    Choice(
        "evaluation.resamples",
        filled("Tests of paired differences flip the signs of images {} times at most."),
        _EVALUATES,
    ),
)

AUDIT = (
    Choice("audit.name", filled("The settings call the audit {}.")),
    Choice(
        "audit.mode",
        {
            AuditMode.one_at_a_time: "It changes one option at a time.",
            AuditMode.product: "It measures all combinations of the listed values.",
            AuditMode.random: "It measures random combinations of the listed values.",
        },
    ),
    Choice("audit.n", filled("It draws {} combinations."), ({"audit.mode": Only((AuditMode.random,))},)),
    Choice("audit.seed", filled("Its draws and splits have the seed {}.")),
    Choice("audit.grid", filled("The listed values are {}.", "No values are listed.")),
    Choice("audit.single", filled("By itself each of {} is measured.", "No value is measured by itself only.")),
    Choice(
        "audit.prompts",
        filled(
            "Of what a segmenter would be asked, each of {} is held by itself against the true masks.",
            "What a segmenter would be asked is not measured.",
        ),
    ),
    Choice(
        "audit.plant",
        {
            Plant.none: "No head is planted.",
            Plant.fixed_spot: "Heads are planted that look at one place, the same in every image.",
            Plant.image_spot: "Heads are planted that look at one place of each image.",
            Plant.border_row: "Heads are planted that look at the last row.",
            Plant.salient_object: "Heads are planted that look at the image's largest annotated object.",
            Plant.background: "Heads are planted that look at all that no annotated object covers.",
            Plant.checkerboard: "Heads are planted that look at every other cell.",
            Plant.jitter: "Heads are planted that look about one place, and a little elsewhere for every expression.",
            Plant.by_wording: "Heads are planted that look at a place that the whole text decides.",
            Plant.by_length: "Heads are planted that look at a place that the number of words decides.",
            Plant.by_one_word: "Heads are planted that look at a place that one word of the text decides.",
            Plant.other_object: "Heads are planted that look at another object than the one that is named.",
        },
    ),
    Choice(
        "audit.plant_share",
        filled("They take the places of a share of {} of the heads."),
        ({"audit.plant": Not((Plant.none,), Plant.fixed_spot)},),
    ),
    Choice("audit.metric", filled("Combinations are ranked by {}.")),
    Choice("audit.target", filled("Its target is {}.", "It has no single target.")),
    Choice("audit.targets", filled("Its targets are {}.", "It has no list of targets.")),
    Choice("audit.paper", filled("The paper's figures of {} are targets, too.", "No figure of the paper is a target.")),
    Choice(
        "audit.paper_metrics",
        filled("Of them {} count.", "Of them none counts."),
        ({"audit.paper": Not((None,), "LLaVA-1.5-7B")},),
    ),
    Choice("audit.beside", filled("The targets of {} count, too.", "No other audit's targets count.")),
    Choice("audit.confirmation", filled("A share of {} of the images is kept to confirm the best combinations.")),
)

RUN = (
    Choice(
        "stage",
        {
            Stage.attend: "The run ended with the attention pass.",
            Stage.discover: "The run ended with discovery.",
            Stage.ground: "The run ended with grounding.",
            Stage.evaluate: "The run ended with the evaluation.",
            Stage.report: "The run went through all stages up to its report.",
            Stage.judge: "The run judged whether given heads follow the words.",
            Stage.steer: "The run made heads look elsewhere and asked whether the answer changes.",
            Stage.audit: "The run measured what other choices do, from stored maps (an audit).",
            Stage.check: "The run looked the data set over.",
            Stage.verify: "The run verified the model.",
            Stage.compare: "The run compared two finished runs.",
            Stage.fetch: "The run fetched what others read.",
            Stage.status: "The run told how far the attention pass was.",
            Stage.direct: "The run asked the LVLM for boxes in words.",
        },
    ),
    Choice("seed", filled("Everything that is drawn at random has the seed {}.")),
)
