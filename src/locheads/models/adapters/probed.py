"""model.adapter=probe: a family that nobody wrote an adapter for is asked itself.

The checkpoint's own processor makes the prompt; where each image token looks is painted out (`painted.py`), and what
rows, columns and views they form follows (`patch_grids.py`). What cannot be placed is refused with the reason.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from locheads.errors import DataError, ModelError, boundary
from locheads.geometry import Geometry, Preprocess, placed
from locheads.models.adapters.family import Cells, FamilyAdapter, Sharing
from locheads.models.capture import ONE_PASS
from locheads.models.painted import decoder_call, find_places, near_sighted, noise
from locheads.models.patch_grids import Grid, find_grids, whole_view
from locheads.models.prompts import PromptText

MARK = "probe"
"""Stands for the rest of a prompt where only the image's part of it matters."""
TYPES = ("mm_token_type_ids", "token_type_ids")
ASPECTS = ((384, 384), (512, 320), (320, 512))
"""Images, in width and height, on which a family is tried before it is used."""


@dataclass(frozen=True)
class Reading:
    """What the checkpoint's processor makes of an image and a prompt that is nothing but the image and MARK."""

    ids: Int[Tensor, "token"]
    tensors: dict[str, Tensor]
    types: dict[str, Int[Tensor, "token"]]
    image_text: str
    ending: str
    """What it puts behind every prompt."""


@dataclass(frozen=True)
class View:
    """What is known of images of one size."""

    tokens: Int[np.ndarray, "row col"]
    """Which of the image tokens are the grid."""
    geometry: Geometry
    positions: Int[Tensor, "3 token"] | None
    """Of everything from the first to the last image token, the first of them being 0; None: they count up by one."""


class Probe:
    """The loaded model, and what was found out by asking it. An adapter's copies for several threads share it."""

    def __init__(self, model: Any, processor: Any, placeholder: str, tiles: bool) -> None:
        self.model, self.processor, self.placeholder, self.tiles = model, processor, placeholder, tiles
        self.forward = set(inspect.signature(model.base_model.forward).parameters)
        self.views: dict[tuple[Any, ...], View] = {}
        self.by_content = False
        """Whether images of which the processor makes the same are laid out the same, whatever their size."""
        first = self.read(noise(*ASPECTS[0], seed=0))
        self.image_token, self.ending = self._image_token(first), first.ending

    def __deepcopy__(self, memo: dict[int, Any]) -> "Probe":
        return self

    def read(self, view: Image.Image) -> Reading:
        return read(self.processor, view, self.placeholder, self.forward)

    def view(self, size: tuple[int, int], reading: Reading) -> View:
        """Raises ModelError where the image's tokens cannot be placed."""
        key = _content(reading) if self.by_content else size
        with ONE_PASS:
            if key not in self.views:
                self.views[key] = self._find(size)
        found = self.views[key]
        width, height = found.geometry.width, found.geometry.height
        return View(found.tokens, found.geometry.seen_through(*size, (0.0, 0.0, width, height)), found.positions)

    def try_aspects(self) -> None:
        """Finds the views of three aspect ratios. Raises ModelError where the tokens of one cannot be placed."""
        found = [(self._find(size), _content(self.read(noise(*size, seed=0)))) for size in ASPECTS]
        self.views = {size: view for size, (view, _) in zip(ASPECTS, found, strict=True)}
        corners = np.array([_shares(view.geometry) for view, _ in found])
        if np.abs(corners - corners.mean(axis=0)).max() < 0.03:
            self.by_content = True
            self.views = {content: view for view, content in found}

    def _find(self, size: tuple[int, int]) -> View:
        reading = self.read(noise(*size, seed=0))
        n = int((reading.ids == self.image_token).sum())
        bands = [int(np.clip(1.5 * (n * one / other) ** 0.5, 12, 40)) for one, other in (size, size[::-1])]
        with near_sighted(self.model):
            places = find_places(self._look, *size, bands=(bands[0], bands[1]))
        try:
            grid = whole_view(find_grids(places, *size), places, self.tiles)
        except ModelError as error:
            raise ModelError(
                f"model.adapter=probe cannot place the {n} image tokens of an image of {size[0]} x {size[1]} pixels: "
                f"{error}. Write an adapter (adapters/TEMPLATE.md), or choose a model of another family."
            ) from error
        return View(grid.tokens, grid.geometry, self._positions(reading))

    def _look(self, image: Image.Image) -> Float[Tensor, "token hidden"]:
        reading = self.read(image)
        return self._call(reading)[0][reading.ids == self.image_token]

    def _call(self, reading: Reading) -> tuple[Float[Tensor, "token hidden"], Tensor | None]:
        """-> (the decoder's input, the position ids that it is given)."""
        model, ids = self.model, reading.ids[None].to(self.model.device)
        tensors = {
            name: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for name, value in reading.tensors.items()
        }
        types = {name: value[None].to(model.device) for name, value in reading.types.items()}
        hint = "a family whose forward pass takes something else needs an adapter of its own (adapters/TEMPLATE.md)."
        with boundary("model.adapter=probe: the model's forward pass failed", ModelError, hint):
            hidden, positions = decoder_call(
                model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **tensors, **types}
            )
        return hidden[0], positions

    def _image_token(self, reading: Reading) -> int:
        """The id of the tokens that another image changes. Raises ModelError where none does."""
        other = self.read(noise(*ASPECTS[0], seed=1))
        one, two = self._call(reading)[0], self._call(other)[0]
        if one.shape != two.shape or not (moved := (one != two).any(dim=-1)).any():
            raise ModelError(
                "model.adapter=probe: no token of the decoder's own sequence changes with the image, at which the model "
                "therefore looks by cross-attention or in an encoder: choose a model of another family."
            )
        return int(reading.ids[moved].mode().values)

    def _positions(self, reading: Reading) -> Int[Tensor, "3 token"] | None:
        positions = self._call(reading)[1]
        if positions is None or positions.ndim < 3:
            return None
        where = (reading.ids == self.image_token).nonzero().squeeze(1)
        own = positions[-3:, 0, where[0] : where[-1] + 1].cpu().long()
        return own - own[:, :1]


class ProbedAdapter(FamilyAdapter):
    """Whatever family it is, as its own processor and model show it."""

    has_tiles = True
    square = False
    not_for_model = ("reading",)
    probe: Probe

    def meet(self, model: Any) -> None:
        """Raises ModelError for a model that cannot be placed."""
        if getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(
                "model.adapter=probe: the image goes to the model's encoder, and its decoder has no image tokens in its "
                "own sequence: choose a model of another family."
            )
        self.processor.image_token = placeholder = image_placeholder(self.processor)
        self.wrapping = image_wrapping(self.processor, placeholder)
        self.probe = Probe(model, copy.deepcopy(self.processor), placeholder, self.tiles)
        self.probe.try_aspects()

    @property
    def image_token_id(self) -> int:
        return self.probe.image_token

    def image_text(self, inputs: Any) -> str:
        return inputs["reading"].image_text

    def finish(self, question: PromptText) -> PromptText:
        return PromptText(question.text + self.probe.ending, question.start, question.end)

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        found = self.probe.view(view.size, inputs["reading"])
        return torch.from_numpy(found.tokens.flatten()), found.geometry

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        ...

    def _process(self, view: Image.Image) -> Any:
        reading = read(self.processor, view, self.processor.image_token, self.probe.forward)
        return {**reading.tensors, "reading": reading}
