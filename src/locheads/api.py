"""For use from Python: ground an expression in an image, without Hydra and run folders."""

import re
import warnings
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL.Image import Image

from locheads.absence.absence_scores import scores_of_one
from locheads.data.arrays import AnyImage, as_image
from locheads.discovery.headset import (
    HeadSet,
    check_headset,
    differences,
    doubts,
    parse_heads,
    published,
    published_for,
    read_headset,
)
from locheads.errors import ConfigError, DataError
from locheads.errors import chosen as one_of
from locheads.geometry import Geometry
from locheads.grounding.candidates import Candidates, candidates
from locheads.grounding.config import Contrast, GroundingConfig, Sinks
from locheads.grounding.contrast import PROBES, contrast_asked
from locheads.grounding.ground_maps import ground_maps, ground_stack
from locheads.grounding.zoom import Look, combine, next_window, seen_in
from locheads.grounding.zoom_config import ZoomConfig
from locheads.models.attend import attend_image
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.engine import EngineConfig
from locheads.models.identity import POCKET
from locheads.models.load import Lvlm, decoder_shape, load_lvlm
from locheads.models.loaded import LoadedModel, model_name, settings_of
from locheads.types import Grounding, HeadIndex

_NO_LIST = 'The expressions must be a list of texts, such as ["the cup"].'
Heads = HeadSet | str | Path | Iterable[str | HeadIndex]
"""A head set (or the heads.json of a run, a folder with one, a published name), or the names of heads."""


class Grounder:
    """A loaded LVLM with its localization heads.

    >>> grounder = Grounder("llava-hf/llava-1.5-7b-hf", heads=["L14H24", "L14H13", "L14H26"])  # doctest: +SKIP
    >>> grounder("kitchen.jpg", "the bowl on the left").box  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | ModelConfig | LoadedModel | None = None,
        heads: Heads | None = None,
        *,
        prompt: PromptConfig | None = None,
        grounding: GroundingConfig | None = None,
        zoom: ZoomConfig | None = None,
        device: str = "auto",
    ) -> None:
        """Loads the model. The model is asked as it was when the heads were found, as far as their file says that.

        Args:
            model: the name of a file in conf/model, a hub id or a folder, with the settings that conf/model gives it or
                its family; a ModelConfig with settings of your own; or what `load_model` gave. None: the one in which
                the heads were found, else the pocket model.
            heads: the heads.json of a run, a published set such as "llava_1_5_7b", or names such as ["L14H24",
                "L14H13"]. None: the published set of this model, if there is one.
            prompt: what the model is asked. None: what it was asked when the heads were found, else referseg.
            grounding: from maps to box (default: the paper's).
            zoom: further looks at a part of the image (default: none); each of them is a forward pass per expression.
            device: auto, cpu, cuda or cuda:N, for a model that is loaded here.

        Warns (UserWarning) where `model` or `prompt` differ from what the heads were found with, and where the run that
        found them judged that they do not follow the words.

        Raises:
            ModelError, ConfigError, StoreError: one sentence on what is missing.
        """
        loaded = model if isinstance(model, LoadedModel) else None
        chosen = None if heads is None else _chosen(heads)
        wanted = model.config if isinstance(model, LoadedModel) else model or _model_of(chosen)
        config = settings_of(wanted)
        chosen = chosen or _published(config)
        found = chosen if isinstance(chosen, HeadSet) else None
        if found is not None and not isinstance(wanted, ModelConfig):
            config = _as_found(config, found)
        self.heads = _checked(loaded.shape if loaded else decoder_shape(config), chosen)
        self._prompt = _prompt(prompt, found)
        self._grounding = grounding or GroundingConfig()
        self._zoom = zoom or ZoomConfig()
        if self._zoom.looks and self._grounding.contrast == Contrast.others:
            raise ConfigError("contrast=others needs other expressions about each part of a zoom: take probes or none.")
        if self._grounding.sinks == Sinks.mean_map:
            raise ConfigError("sinks=mean_map needs the mean over many samples: it works in a run, not here.")
        for sentence in [*differences(found, config, self._prompt), *doubts(found)] if found else []:
            warnings.warn(sentence, stacklevel=2)
        # What lies beyond the deepest head is neither loaded nor run, unless words are asked for.
        layers = None if self._prompt.asks else 1 + max(head.layer for head in self.heads)
        self._lvlm: Lvlm = loaded or load_lvlm(config, EngineConfig(device=device), layers)

    def __call__(self, image: AnyImage, expression: str) -> Grounding:
        """Box (xyxy, pixels), pseudo-mask [height, width] and heat map [row, col] of what the expression names, and how
        much speaks for its absence.

        Args:
            image: a file or its bytes, turned upright as its EXIF says; a PIL image; an array [height, width],
                [height, width, 1], [height, width, 3] (RGB) or [height, width, 4] of integers 0 to 255 or floats 0 to
                1; a torch tensor of the same values, channels-first as torchvision makes it.
            expression: what to look for.

        Raises:
            DataError: the image cannot be read, or is none of these, which is said by name; no expression.
        """
        return self.each(image, [expression])[0]

    def each(self, image: AnyImage, expressions: Sequence[str]) -> list[Grounding]:
        """As calls for each of the expressions, in one pass. With contrast="others" they must mean different objects:
        each one's maps are contrasted with those of the others."""
        if isinstance(expressions, str) or not expressions:
            raise DataError(_NO_LIST)
        opened = as_image(image)
        maps, geometry = self._maps(opened, expressions)
        if self._zoom.looks == 0:
            return [self._ground(own, geometry) for own in maps]
        pairs = zip(expressions, maps, strict=True)
        firsts = ((text, Look.first(own, geometry, self._grounding)) for text, own in pairs)
        return [self._combined(self.looks(opened, text, first, self._zoom), *opened.size) for text, first in firsts]

    def _ground(self, maps: Float[np.ndarray, "head row col"], geometry: Geometry) -> Grounding:
        found = ground_maps(maps, geometry, self._grounding)
        if self._grounding.contrast != Contrast.none:
            return found
        return replace(found, absence=scores_of_one(maps, self._grounding))

    def looks(self, image: AnyImage, expression: str, first: Look, zoom: ZoomConfig) -> list[Look]:
        """The first look, which is at the whole image (`Look.first`), and those at parts of it that `zoom` asks for, a
        pass each, grounded as the first is. `locheads.grounding.zoom.combine` says which answer counts."""
        looks, opened = [first], as_image(image)
        for _ in range(zoom.looks):
            if (view := next_window(looks[-1], *opened.size, zoom)) is None:
                break
            maps, geometry = self._maps(opened.crop(view), [expression])
            looks.append(Look(ground_stack(maps, (geometry,), first.stack.config), view))
        return looks

    def _combined(self, looks: Sequence[Look], width: int, height: int) -> Grounding:
        found = combine(looks, self._zoom)
        return Grounding(
            found.box, found.mask(width, height), found.fused, seen_in(found.geometry, found.view, width, height)
        )

    def candidates(self, image: AnyImage, expressions: Sequence[str]) -> list[Candidates]:
        """Boxes with scores of all that stands out, for expressions that may name several objects; see `Candidates`.
        One pass for all expressions, as `each`."""
        if isinstance(expressions, str) or not expressions:
            raise DataError(_NO_LIST)
        maps, geometry = self._maps(as_image(image), expressions)
        return candidates(ground_stack(maps, (geometry,) * len(maps), self._grounding))

    def maps(self, image: AnyImage, expression: str) -> tuple[Float[np.ndarray, "head row col"], Geometry]:
        """The maps of `heads`, one by one, contrasted where `grounding` says so, and where their cells lie in the
        image. Raises as a call does."""
        maps, geometry = self._maps(as_image(image), [expression])
        return maps[0], geometry

    def _maps(
        self, image: Image, expressions: Sequence[str]
    ) -> tuple[Float[np.ndarray, "sample head row col"], Geometry]:
        how, n = self._grounding.contrast, len(expressions)
        for expression in expressions:
            if not isinstance(expression, str):
                raise DataError(f"The expression must be one text (str), not {type(expression).__name__}.")
        if how == Contrast.others and n == 1:
            raise ConfigError("contrast=others needs several expressions (Grounder.each), or take contrast=probes.")
        asked = [*expressions, *(PROBES if how == Contrast.probes else ())]
        maps, geometry = attend_image(self._lvlm, image, asked, self._prompt, self.heads)
        return contrast_asked(maps, n, how), geometry


def ground(
    image: AnyImage,
    expression: str,
    *,
    model: str | None = None,
    heads: Heads | None = None,
    contrast: str = Contrast.none,
    zoom: ZoomConfig | None = None,
) -> Grounding:
    """Grounds one expression; keeps the model loaded for the next call. See `Grounder` for arguments and errors.

    `contrast`: "none" or "probes" (see `Contrast`); for "others" see `Grounder.each`. `zoom`: a second look, such as
    ZoomConfig(looks=1).
    """
    grounder = copy(_grounder(None if model is None else model_name(model), heads))
    grounder._grounding = GroundingConfig(contrast=one_of(Contrast, contrast))
    grounder._zoom = zoom or ZoomConfig()
    return grounder(image, expression)


_kept: list[tuple[Any, Grounder]] = []
"""The last call's model, with what it was asked for."""


def _grounder(model: str | None, heads: Heads | None) -> Grounder:
    # What a file says now, not what it said at the last call.
    wanted = model, None if heads is None else _chosen(heads)
    if not _kept or _kept[0][0] != wanted:
        _kept.clear()  # before the next one is loaded: the memory may hold one only
        _kept.append((wanted, Grounder(*wanted)))
    return _kept[0][1]


def _chosen(heads: Heads) -> HeadSet | tuple[HeadIndex, ...]:
    """A head set, or the heads that are given by their names, "L14H24,L14H13" included."""
    if isinstance(heads, str) and re.fullmatch(r"L\d+H\d+(\s*,\s*L\d+H\d+)*", heads):
        heads = re.split(r"\s*,\s*", heads)
    if isinstance(heads, HeadSet):
        return heads
    if isinstance(heads, str | Path):
        return read_headset(heads)
    if not isinstance(heads, Iterable):
        raise ConfigError(f'heads must be a head set or names such as ["L14H24"], not {type(heads).__name__}.')
    return parse_heads(heads)


def _model_of(chosen: HeadSet | tuple[HeadIndex, ...] | None) -> str:
    return (chosen.model if isinstance(chosen, HeadSet) else None) or POCKET


def _published(config: ModelConfig) -> HeadSet:
    found = published_for(config.id)
    if found is None:
        raise ConfigError(
            f"Which heads of {config.id} localize is not known: give heads= the heads.json of a run with it, a "
            f'published set ({", ".join(published())}), or names such as ["L14H24", "L14H13", "L14H26"].'
        )
    return found


def _as_found(config: ModelConfig, found: HeadSet) -> ModelConfig:
    """The settings with which the heads were found, as far as their file says that."""
    asked: dict[str, Any] = {}
    if found.revision is not None and found.model == config.id:
        asked |= {"revision": found.revision}
    if found.preprocess is not None:
        asked |= {"preprocess": found.preprocess, "tiles": found.tiles}
    return replace(config, **asked)


def _prompt(prompt: PromptConfig | None, found: HeadSet | None) -> PromptConfig:
    if prompt is not None and not isinstance(prompt, PromptConfig):
        raise ConfigError(f"prompt must be a PromptConfig, such as PromptConfig(template=...), not {prompt!r}.")
    return prompt or (found and found.prompt) or PromptConfig()


def _checked(shape: tuple[int, int], chosen: HeadSet | tuple[HeadIndex, ...]) -> tuple[HeadIndex, ...]:
    """The heads, all of which a model of this shape (layers, heads per layer) has."""
    layers, per_layer = shape
    if isinstance(chosen, HeadSet):
        check_headset(chosen, layers, per_layer)
        return chosen.heads
    for head in chosen:
        if head.layer >= layers or head.head >= per_layer:
            raise ConfigError(f"{head} is not in this model, which has {layers} layers of {per_layer} heads.")
    return chosen
