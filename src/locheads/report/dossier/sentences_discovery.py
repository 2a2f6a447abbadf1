"""What the settings of discovery, of the choice of heads and of their dependence on the words say in a methods
paragraph."""

from locheads.discovery.config import Draw, ElbowRule, Require, SelectionKind, Threshold, Until
from locheads.discovery.criteria import CRITERIA
from locheads.map_numbers import EmptyMaps, Floor, Precision, Weighting
from locheads.report.dossier.choice import Choice, Look, Not, Only, Where, filled, of_one, shown

_THRESHOLDED: Where = {
    "criterion.score": Not(tuple(name for name, one in CRITERIA.items() if not one.thresholded), "s_img_entropy"),
}
_VOTES: Where = {
    "criterion.score": Not(tuple(name for name, one in CRITERIA.items() if one.pooled), "s_img_entropy"),
}
TIES = "Ties in what heads are ranked by go to the lower layer, and within a layer to the lower head."

SCORES = {
    "s_img": "A sample's heads are ranked by their attention sum, the highest first.",
    "entropy": "A sample's heads are ranked by the spatial entropy of their maps, the lowest first, whatever their "
    "attention sum.",
    "s_img_entropy": "A sample's heads are ranked by the spatial entropy of their maps, the lowest first, among those "
    "whose attention sum reaches a threshold.",
    "map_entropy": "A sample's heads are ranked by Shannon's entropy of their maps normalised to sum 1, the lowest "
    "first, among those whose attention sum reaches a threshold.",
    "words": "Heads are ranked by their mean attention sum times their dependence on the words, the highest first.",
    "dependence": "Heads are ranked by their dependence on the words, the highest first.",
}


def _score(value: object, _: Look) -> str:
    return SCORES.get(str(value), f"Heads are ranked by the user's own criterion {shown(value)}.")


DISCOVERY = (
    Choice("criterion.name", filled("The settings call the criterion {}.")),
    Choice("criterion.score", _score),
    Choice(
        "criterion.threshold",
        {
            Threshold.mean: "The threshold is one on the sums' means over the samples.",
            Threshold.per_sample: "The threshold is each sample's own, on its own sums (as in the released code C1).",
            Threshold.per_sample_index_bug: "The threshold is each sample's own, and a head passes where its flat "
            "index, not its sum, is at least that of the head at the elbow (the released code C0's bug).",
        },
        (_THRESHOLDED,),
    ),
    Choice(
        "criterion.tau",
        filled("The threshold tau is fixed at {}.", "The threshold tau is the sum at the elbow of the sorted sums."),
        ({**_THRESHOLDED, "criterion.threshold": Only((Threshold.mean,))},),
    ),
    Choice(
        "criterion.elbow",
        {
            ElbowRule.chord: "The elbow is the point farthest from the line between the curve's ends.",
            ElbowRule.kneed: "The elbow is the knee that the package kneed finds in a convex increasing curve.",
        },
        (
            {**_THRESHOLDED, "criterion.threshold": Not((Threshold.mean,), Threshold.per_sample)},
            {**_THRESHOLDED, "criterion.tau": Only((None,))},
        ),
    ),
    Choice(
        "criterion.floor",
        {
            Floor.mean: "Components of a map are made of the cells a > mean(a), 8-connected.",
            Floor.relu_mean_eps: "Components of a map are made of the cells with ReLU(a - mean(a)) > 0.001, "
            "8-connected (as in the released code C0).",
            Floor.relu_2mean_eps: "Components of a map are made of the cells with ReLU(a - 2 mean(a)) > 0.001, "
            "8-connected (as in the released code C1).",
        },
    ),
    Choice(
        "criterion.weighting",
        {
            Weighting.area: "In the entropy -sum P log P a component's share P is that of its cells.",
            Weighting.mass: "In the entropy -sum P log P a component's share P is that of its rectified attention (as "
            "in the released code).",
        },
    ),
    Choice(
        "criterion.empty_maps",
        {
            EmptyMaps.never: "A map without a component has infinite entropy and is never chosen.",
            EmptyMaps.zero: "A map whose rectified cells all are 0.001 or less has entropy 0, the best (as in the "
            "released code).",
        },
    ),
    Choice(
        "criterion.precision",
        {
            Precision.float64: "Entropies are worked out in 64-bit numbers.",
            Precision.float32: "Entropies are worked out in 32-bit numbers (as in the released code).",
        },
    ),
    Choice(
        "criterion.max_bottom_row",
        filled(
            "A head is dropped from a sample in which a weight of its map's bottom row exceeds {}.",
            "Maps are not filtered by their bottom row.",
        ),
    ),
    Choice(
        "criterion.min_dependence",
        filled(
            "Heads whose dependence on the words is below {} are dropped.",
            "No head is dropped for its dependence on the words.",
        ),
    ),
    Choice(
        "criterion.min_keep",
        lambda value, _: (
            f"A sample with fewer than {value:,} heads left takes that many of its highest sums instead, of any layer."
            if value
            else "A sample may be left with no head."
        ),
    ),
    Choice(
        "criterion.candidates",
        of_one("Each sample votes for its {} best heads.", "Each sample votes for its best head."),
        (_VOTES,),
    ),
    Choice(
        "discovery.draw",
        {
            Draw.expression: "The samples of a trial are random pairs of an image and an expression.",
            Draw.image: "The samples of a trial are all expressions of random images, of the last image a random part.",
        },
    ),
    Choice("discovery.n_samples", of_one("A trial has {} samples at most.", "A trial has 1 sample.")),
    Choice(
        "discovery.trials", of_one("There are {} trials, over which frequencies are averaged.", "There is 1 trial.")
    ),
    Choice(
        "discovery.until",
        {
            Until.count: "All samples of a trial are asked.",
            Until.stable: "Samples are asked in rounds (50 of each trial, 100, 200, ...) until the heads are final.",
        },
    ),
    Choice(
        "discovery.confidence",
        filled("Heads are called final where they come first in a share of {} of the resamples of the images."),
    ),
    Choice(
        "discovery.sizes",
        filled("Heads are also ranked by the first {} samples of each trial.", "Heads are ranked by all samples only."),
    ),
)

HEADS = (
    Choice(
        "heads.set",
        filled("The heads were given to the run, by {}; it discovered none.", "The run discovered the heads itself."),
    ),
    Choice(
        "criterion.skip_layers",
        lambda value, _: (
            f"Of the first {value:,} layers no head is a localization head."
            if value
            else "Heads of all layers are admitted."
        ),
        # Given heads: the random ones are drawn from the others.
    ),
    Choice(
        "selection.kind",
        {
            SelectionKind.fixed: "The same heads ground every sample.",
            SelectionKind.greedy: "Each sample is grounded by its own best heads.",
        },
    ),
    Choice("heads.k", of_one("The maps of {} heads are summed.", "The map of 1 head is used.")),
    Choice(
        "heads.require",
        {
            Require.nothing: "Heads are used whether or not they follow the words.",
            Require.follow: "Heads that do not follow the words would have ended the run.",
        },
    ),
    Choice(
        "dependence.images",
        lambda value, _: (
            f"Whether heads depend on the words is measured on the expressions of {value:,} whole images."
            if value
            else "Whether heads depend on the words is not measured."
        ),
    ),
    Choice(
        "dependence.tolerance",
        filled("There two peaks are at the same place within a share of {} of a map's rows and columns."),
        ({"dependence.images": Not((0,), 60)},),
    ),
    Choice(
        "dependence.resamples",
        filled("Its intervals are a bootstrap over images of {} resamples."),
        ({"dependence.images": Not((0,), 60)},),
    ),
)

STEERING = (
    Choice("steer.k", filled("Heads are steered together in sets of {}.")),
    Choice("steer.other", filled("To their logits {} is added on the cells of the other expression.")),
    Choice(
        "steer.own",
        filled("To their logits {} is added on the cells of the expression itself that are none of the other's."),
    ),
    Choice("steer.images", filled("Steering uses {} images at most.")),
)
