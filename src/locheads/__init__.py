"""Visual grounding from a few attention heads of a frozen LVLM: the public library (docs/library.md).

>>> from locheads import ground
>>> result = ground("scene.jpg", "the striped red circle")  # doctest: +SKIP
>>> result.box, result.mask, result.heatmap  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locheads.api import Grounder, ground
    from locheads.data.config import DatasetConfig
    from locheads.dependence.config import DependenceConfig
    from locheads.discovery.config import CriterionConfig
    from locheads.discovery.found_heads import FoundHeads, Judgement, save_heads
    from locheads.discovery.headset import HeadSet
    from locheads.discovery.headset import read_headset as load_heads
    from locheads.errors import LocHeadsError
    from locheads.grounding.config import GroundingConfig
    from locheads.library import (
        attend,
        attention_sum,
        discover_heads,
        evaluate,
        read_samples,
        spatial_entropy,
    )
    from locheads.models.config import ModelConfig, PromptConfig
    from locheads.models.loaded import LoadedModel, load_model
    from locheads.report.figure_files import heads_figure, run_figures, save_figure
    from locheads.types import Attention, Grounding, HeadIndex, ImageGroup, Sample

_HOMES = {
    # Ground.
    "ground": "api",  # one expression in one image; keeps the model for the next call
    "Grounder": "api",  # a model with its localization heads, called with image and expression
    "Grounding": "types",  # what grounding answers: box, mask, heat map
    # Attend.
    "load_model": "models.loaded",  # by hub id, folder or "pocket", or a transformers model with its processor
    "LoadedModel": "models.loaded",  # what it gives
    "attend": "library",  # the attention maps of all heads, or of some
    "Attention": "types",  # what it gives: maps [sample, layer, head, row, col]
    # Score maps.
    "attention_sum": "library",  # criterion 1, S_img, of maps [..., row, col]
    "spatial_entropy": "library",  # criterion 2 of maps [..., row, col]
    # Discover, judge and keep heads.
    "discover_heads": "library",  # localization heads from images with expressions
    "FoundHeads": "discovery.found_heads",  # what it gives; `.judge()` says how far to trust it
    "Judgement": "discovery.found_heads",  # agreement of the trials, margin, heads from fewer samples
    "save_heads": "discovery.found_heads",  # -> heads.json, as a run writes it
    "load_heads": "discovery.headset",  # a heads.json, or a published set by its name
    "HeadSet": "discovery.headset",  # what it gives
    "HeadIndex": "types",  # one head, HeadIndex(14, 24) for L14H24
    # Evaluate.
    "read_samples": "library",  # a split of a data set
    "evaluate": "library",  # boxes and masks against the truth: every metric with its interval
    "ImageGroup": "types",  # an image with its samples
    "Sample": "types",  # an expression with its true box and mask
    # Draw.
    "run_figures": "report.figure_files",  # name -> matplotlib figure, of a run folder
    "heads_figure": "report.figure_files",  # layers x heads of a head set
    "save_figure": "report.figure_files",  # -> an SVG, PDF or PNG file
    # Settings, each a group of the configuration.
    "ModelConfig": "models.config",
    "PromptConfig": "models.config",
    "DatasetConfig": "data.config",
    "CriterionConfig": "discovery.config",
    "DependenceConfig": "dependence.config",
    "GroundingConfig": "grounding.config",
    "ZoomConfig": "grounding.zoom_config",
    # Errors.
    "LocHeadsError": "errors",  # the base of all that a user's mistake raises: one sentence
}
"""Public name -> the module below locheads that holds it, imported at first use: `import locheads` loads no torch."""

_ELSEWHERE = {"load_heads": "read_headset"}

__all__ = [
    "Attention",
    "CriterionConfig",
    "DatasetConfig",
    "DependenceConfig",
    "FoundHeads",
    "Grounder",
    "Grounding",
    "GroundingConfig",
    "HeadIndex",
    "HeadSet",
    "ImageGroup",
    "Judgement",
    "LoadedModel",
    "LocHeadsError",
    "ModelConfig",
    "PromptConfig",
    "Sample",
    "ZoomConfig",
    "attend",
    "attention_sum",
    "discover_heads",
    "evaluate",
    "ground",
    "heads_figure",
    "load_heads",
    "load_model",
    "read_samples",
    "run_figures",
    "save_figure",
    "save_heads",
    "spatial_entropy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'locheads' has no attribute {name!r}")
    return getattr(importlib.import_module(f"locheads.{_HOMES[name]}"), _ELSEWHERE.get(name, name))


def __dir__() -> list[str]:
    return __all__
