"""Settings of the audit; kept apart, because the configuration loads before everything."""

from dataclasses import field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from locheads.audit.targets import Target
from locheads.dependence.planted import Plant
from locheads.evaluation.metric_table import PRIMARY, Place, shown
from locheads.settings import Seed, Text, require, settings

Grid = dict[str, dict[str, list[Any]]]


class AuditMode(StrEnum):
    """Which combinations are measured. Every option alone is measured in any mode."""

    one_at_a_time = "one_at_a_time"
    """The run's own settings with one option changed."""
    product = "product"
    """All combinations of the listed values."""
    random = "random"
    """`n` different ones of these, drawn with `seed`."""


COLUMNS = ("box_iou", "intersection", "union", "peak_x", "peak_y")
"""What the audit finds out of each sample's answer, as in scores.parquet."""
TRUTH = ("true_x0", "true_y0", "true_x1", "true_y1", "image_width", "image_height")
"""What it knows of the sample, as there."""
AUDITED = tuple(m for m in shown(Place.AUDIT).values() if {*m.columns} <= {*COLUMNS, *TRUTH, "pointed"})
METRICS = tuple(metric.key for metric in AUDITED)
GROUPS = ("criterion", "selection", "heads", "grounding")
"""Groups of settings that act after the attention pass, as far as the audit varies them."""
PROMPTS = ("prompt", "points", "n_points", "depth", "negatives", "margin", "margin_pixels")
"""Settings of `segmenter` that say what it is asked, whatever it makes of that."""
EMPTY_GRID = "audit.grid lists no values: choose a file with audit=NAME, or list values in audit.grid."
LARGEST = 20_000
"""Combinations of one audit."""


def _default_grid() -> Grid:
    """A value that is a mapping sets several settings of the group at once."""
    return {
        "criterion": {
            "score": ["s_img_entropy", "s_img", "entropy"],
            "floor": ["mean", "relu_mean_eps"],
            "weighting": ["area", "mass"],
            "candidates": [5, 10],
        },
        "selection": {"kind": ["fixed", "greedy"]},
        "heads": {"k": [1, 2, 3, 5]},
        "grounding": {
            "sinks": ["keep", "mean_map", "border_rows"],
            "normalise": ["none", "sum", "max"],
            "sigma": [0.0, 0.5, 1.0, 2.0],
            "border": ["mirror", "reflect", "nearest", "constant"],
            "threshold": [
                "mean",
                {"threshold": "mean", "level": 1.5},
                {"threshold": "mean", "level": 2.0},
                "otsu",
                {"threshold": "quantile", "level": 0.8},
                {"threshold": "quantile", "level": 0.9},
                {"threshold": "max_fraction", "level": 0.3},
                {"threshold": "max_fraction", "level": 0.5},
                {"threshold": "fixed_area", "level": 0.1},
            ],
            "component": ["largest_hull", "largest_area", "largest_mass", "highest_peak", "all_cells"],
            "box": ["hull", "component", "cell_centres", "mass_quantiles"],
            "clamp": [True, False],
            "mask": ["all_cells", "box_cells"],
        },
    }


def _default_single() -> Grid:
    """A finer lattice has some 200 times as many cells as the grid, and costs as much more; `kneed` finds no knee in
    many curves. Contrast is no reading of the paper. Both scales of smoothing are one on a grid of 24, where half of
    all combinations would be measured twice. The others are what the released code does and nobody would choose."""
    return {
        "criterion": {
            "elbow": ["chord", "kneed"],
            "threshold": ["mean", "per_sample", "per_sample_index_bug"],
            "empty_maps": ["never", {"floor": "relu_mean_eps", "empty_maps": "zero"}],
        },
        "grounding": {
            "contrast": ["none", "others"],
            "smoothing_scale": ["cells", "grid"],
            "padding": ["mapped", "ignored"],
            "rounding": ["none", "truncated"],
            "resolution": [
                "grid",
                {"resolution": "input", "upsampling": "bilinear"},
                {"resolution": "input", "upsampling": "bicubic"},
                {"resolution": "image", "upsampling": "bilinear"},
            ],
        },
    }


@settings("audit")
class AuditConfig:
    """What stage=audit tries; it reads the store and runs no model."""

    name: str = "one_at_a_time"
    mode: AuditMode = AuditMode.one_at_a_time
    n: Annotated[int, Field(ge=1, le=LARGEST)] = 500
    """Combinations that mode=random draws."""
    seed: Seed = 0
    grid: Grid = field(default_factory=_default_grid)
    """Group -> setting -> values. An empty list leaves the setting as it is."""
    single: Grid = field(default_factory=_default_single)
    """As `grid`, but each value is measured by itself only, in any mode: what costs much."""
    prompts: dict[str, list[Any]] = field(default_factory=dict)
    """Setting of `segmenter` -> values, each measured by itself as in `single`: what a segmenter would be asked by the
    run's own heads and grounding, held against the true masks. audit=prompts lists some; no segmenter runs."""
    plant: Plant = Plant.none
    """Heads that do not follow the words, put in the place of some of the model's: which criteria do they fool?"""
    plant_share: Annotated[
        float, Field(gt=0, le=1, description="must be a share of the heads, above 0 and up to 1")
    ] = 0.1
    """Of the heads that discovery admits."""
    metric: str = PRIMARY[0]
    """What combinations are ranked by."""
    target: Annotated[float | None, Field(ge=0, le=1, description="must lie between 0 and 1 (0.865, not 86.5)")] = None
    """Which combinations are compatible with this value (0 to 1) of the metric?"""
    targets: list[Any] = field(default_factory=list)
    """More of them, all at once: {value: 0.731, metric: res_ciou, heads.k: 2} is a figure that was measured with these
    settings (none are needed), whatever the combination. Each such change is measured with every combination."""
    paper: Text | None = None
    """A model as the paper writes it, such as LLaVA-1.5-7B: its figures in the paper's Tables 1, 2, 4, 5 and 8 for the
    run's data set and split are targets, too."""
    paper_metrics: list[Text] = field(default_factory=lambda: [PRIMARY[0]])
    """Which of them. The paper's masks come from SAM and the audit's are pseudo-masks, so its res_ciou is left out."""
    beside: list[Text] = field(default_factory=list)
    """Folders of finished audits of other splits, of the same combinations: their targets count as well."""
    confirmation: Annotated[float, Field(gt=0, lt=1, description="must be a share of the images, between 0 and 1")] = (
        0.5
    )
    """The best combinations are picked on the other images and confirmed on these, drawn with `seed`."""

    def __post_init__(self) -> None:
        groups = ", ".join(GROUPS)
        require(
            (self.metric in METRICS, f"audit.metric={self.metric} is unknown: use one of {', '.join(METRICS)}."),
            *(
                (group in GROUPS, f"audit.{name}.{group} cannot be varied: the audit knows {groups}.")
                for name, grid in (("grid", self.grid), ("single", self.single))
                for group in grid
            ),
            *(
                (key in PROMPTS, f"audit.prompts holds {key}, which is not measured without a segmenter: use "
                                 f"{', '.join(PROMPTS)}.")
                for option, values in self.prompts.items()
                for key in (option, *(key for value in values if isinstance(value, dict) for key in value))
            ),
            *((metric in METRICS, f"audit.paper_metrics holds {metric}: use {', '.join(METRICS)}.")
              for metric in self.paper_metrics),
        )  # fmt: skip
        self.own_targets()

    def own_targets(self) -> list[Target]:
        """Those that are listed here. Raises ConfigError for one that is none."""
        listed = [{"value": self.target}] * (self.target is not None) + self.targets
        for one in listed:
            require((isinstance(one, dict), f"audit.targets holds {one}: write {{value: 0.731, metric: res_ciou}}."))
        return [self._target(dict(one)) for one in listed]

    def _target(self, one: dict[str, Any]) -> Target:
        text, metric, value = f"audit.targets holds {one}", one.pop("metric", self.metric), one.pop("value", None)
        is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        require(
            (metric in METRICS, f"{text}: metric must be one of {', '.join(METRICS)}."),
            (is_share, f"{text}: value must lie between 0 and 1 (0.865, not 86.5)."),
            *((name.split(".")[0] in GROUPS and name.count(".") == 1,
               f"{text}: {name} is no setting of {', '.join(GROUPS)}.") for name in one),
        )  # fmt: skip
        return Target(metric, float(value), one)
