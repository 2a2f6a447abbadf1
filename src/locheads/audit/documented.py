"""What the paper says of its choices: a combination that differs here is not the paper's method."""

from typing import Any

from locheads.audit.choice_grid import Choice, text
from locheads.discovery.config import SelectionKind, Threshold
from locheads.grounding.config import BoxRule, Component, Contrast, ThresholdRule
from locheads.map_numbers import Floor, Weighting

DOCUMENTED: dict[str, tuple[Any, str]] = {
    "criterion.score": ("s_img_entropy", "lowest entropy among the heads that reach the threshold"),
    "criterion.threshold": (Threshold.mean, "on the mean attention sum over the samples"),
    "criterion.tau": (None, "at the maximum curvature"),
    "criterion.floor": (Floor.mean, "above the map's mean"),
    "criterion.weighting": (Weighting.area, "components count by area"),
    "criterion.skip_layers": (2, "the first two layers are left out"),
    "criterion.candidates": (10, "ten heads per sample"),
    "selection.kind": (SelectionKind.fixed, "the most frequent heads for every sample"),
    "heads.k": (3, "three heads"),
    "grounding.contrast": (Contrast.none, "the heads' own maps"),
    "grounding.kernel": (7, "kernel 7"),
    "grounding.sigma": (1.0, "sigma 1.0"),
    "grounding.threshold": (ThresholdRule.mean, "above the mean"),
    "grounding.component": (Component.largest_hull, "the largest convex hull"),
    "grounding.box": (BoxRule.hull, "the hull's tight box"),
}
"""Setting -> (value, the paper's words). What is not here, the paper leaves open."""


def contradictions(choice: Choice) -> list[str]:
    """The documented choices that this combination goes against, as "heads.k=5 (paper: 3, three heads)"."""
    found = [
        f"{name}={text(choice.setting(name))} (paper: {words})"
        for name, (value, words) in DOCUMENTED.items()
        if choice.setting(name) != value and not _same_box(name, choice)
    ]
    grounding = choice.grounding
    if grounding.threshold == ThresholdRule.mean and grounding.threshold_level() != 1:
        found.append(f"grounding.level={text(grounding.level)} (paper: above the mean itself)")
    return found


def _same_box(name: str, choice: Choice) -> bool:
    """The box around a component is the box around its hull."""
    return name == "grounding.box" and choice.grounding.box == BoxRule.component
