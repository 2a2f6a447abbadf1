"""For use from Python: ground an expression in a picture, without Hydra and run folders."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from locheads.data.pictures import read_picture, to_rgb
from locheads.discovery.headset import check_headset, parse_heads, published, published_for, read_headset
from locheads.engine import EngineConfig
from locheads.errors import ConfigError
from locheads.grounding.choices import GroundingConfig, Sinks
from locheads.grounding.ground import ground_maps
from locheads.models.attend import attend_image
from locheads.models.choices import ModelConfig, PromptConfig
from locheads.models.geometry import Geometry
from locheads.models.load import POCKET, Lvlm, decoder_shape, load_lvlm
from locheads.types import Grounding, HeadIndex


class Grounder:
    """A loaded LVLM with its localization heads.

    >>> grounder = Grounder("llava-hf/llava-1.5-7b-hf", heads=["L14H24", "L14H13", "L14H26"])  # doctest: +SKIP
    >>> grounder("kitchen.jpg", "the bowl on the left").box  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | ModelConfig = POCKET,
        heads: str | Path | Iterable[str] | None = None,
        *,
        prompt: PromptConfig | None = None,
        grounding: GroundingConfig | None = None,
        device: str = "auto",
    ) -> None:
        """Loads the model.

        Args:
            model: "pocket", a folder, a hub id, or a ModelConfig for dtype, revision and preprocessing.
            heads: the heads.json of a run, a published set such as "llava_1_5_7b", or names such as ["L14H24",
                "L14H13"]. None: the published set of this model, if there is one.
            prompt: what the model is asked (default: referseg).
            grounding: from maps to box (default: the paper's).
            device: auto, cpu, cuda or cuda:N.

        Raises:
            ModelError, ConfigError, StoreError: one sentence on what is missing.
        """
        config = model if isinstance(model, ModelConfig) else ModelConfig(name=model, id=model)
        self.heads = _heads(config, heads)
        self._prompt, self._grounding = prompt or PromptConfig(), grounding or GroundingConfig()
        if self._grounding.sinks is Sinks.mean_map:
            raise ConfigError("sinks=mean_map needs the mean over many samples: it works in a run, not here.")
        # What lies beyond the deepest head is neither loaded nor run.
        layers = 1 + max((head.layer for head in self.heads), default=0)
        self._lvlm: Lvlm = load_lvlm(config, EngineConfig(device=device), layers)

    def __call__(self, image: Image.Image | np.ndarray | str | Path, expression: str) -> Grounding:
        """Box (xyxy, pixels), pseudo-mask [height, width] and heat map [row, col] of what the expression names.

        A file is turned upright as its EXIF says, and the pixels are those of the upright picture; arrays and opened
        pictures are taken as they are.

        Raises:
            DataError: the picture cannot be read or the expression is empty.
        """
        return ground_maps(*self.maps(image, expression), self._grounding)

    def maps(
        self, image: Image.Image | np.ndarray | str | Path, expression: str
    ) -> tuple[Float[np.ndarray, "head row col"], Geometry]:
        """The maps of `heads`, one by one, and where their cells lie in the picture. Raises as a call does."""
        maps, geometry = attend_image(self._lvlm, _picture(image), [expression], self._prompt, self.heads)
        return maps[0], geometry


def ground(
    image: Image.Image | np.ndarray | str | Path,
    expression: str,
    *,
    model: str = POCKET,
    heads: str | Path | Iterable[str] | None = None,
) -> Grounding:
    """Grounds one expression; keeps the model loaded for the next call. See `Grounder` for arguments and errors."""
    hashable = heads if heads is None or isinstance(heads, str | Path) else tuple(heads)
    return _grounder(model, hashable)(image, expression)


@lru_cache(maxsize=1)
def _grounder(model: str, heads: str | Path | tuple[str, ...] | None) -> Grounder:
    return Grounder(model, heads)


def _heads(config: ModelConfig, heads: str | Path | Iterable[str] | None) -> tuple[HeadIndex, ...]:
    """The heads, all of which the model has."""
    layers, per_layer = decoder_shape(config)
    if heads is None or isinstance(heads, str | Path):
        found = published_for(config.id) if heads is None else read_headset(heads)
        if found is None:
            raise ConfigError(
                f"Which heads of {config.id} localize is not known: give heads= the heads.json of a run with it, a "
                f'published set ({", ".join(published())}), or names such as ["L14H24", "L14H13", "L14H26"].'
            )
        check_headset(found, layers, per_layer)
        return found.heads
    named = parse_heads(heads)
    for head in named:
        if head.layer >= layers or head.head >= per_layer:
            raise ConfigError(f"{head} is not in this model, which has {layers} layers of {per_layer} heads.")
    return named


def _picture(image: Image.Image | np.ndarray | str | Path) -> Image.Image:
    if isinstance(image, str | Path):
        return read_picture(Path(image), upright=True)
    return to_rgb(Image.fromarray(image) if isinstance(image, np.ndarray) else image)
