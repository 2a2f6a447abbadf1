"""The attention pass: the only step that runs the LVLM."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from inspect import signature
from itertools import islice
from typing import Any, assert_never

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL.Image import Image

from locheads.errors import ModelError, boundary
from locheads.geometry import Geometry
from locheads.map_numbers import attention_sum
from locheads.models.adapters import PreparedInput, Sharing, attending_layers
from locheads.models.batching import (
    Batch,
    Budget,
    Strip,
    chunks,
    collate,
    is_out_of_memory,
    single,
    whole,
    with_halving,
)
from locheads.models.capture import ONE_PASS, Recorder, is_done, recording
from locheads.models.config import PromptConfig
from locheads.models.identity import PARTS
from locheads.models.load import Lvlm
from locheads.types import Attention, HeadIndex, ImageGroup

NOT_FINITE = (
    "The model's attention is not finite: choose model.dtype=bfloat16 or float32, or where it is "
    "float32, download the weights again."
)
NO_MEMORY = (
    "The forward pass of this single expression does not fit into the memory of the device: choose "
    "model.dtype=bfloat16, engine.quantization or engine.device_map=auto."
)


@dataclass(frozen=True)
class QueryRows:
    """What the layers of the decoder gave of one expression, still on the model's device."""

    layers: Sequence[Float[torch.Tensor, "query head cell"]]
    """Of every recorded layer the attention of the expression's query tokens."""
    grid: tuple[int, int]
    """(rows, columns) of the patch grid."""
    heads: Sequence[int] | None
    """The order of the heads that were asked for among those recorded; None: every head of every layer."""

    @property
    def device(self) -> torch.device:
        """Of the model."""
        return self.layers[-1].device

    def maps(self) -> Float[np.ndarray, "*head row col"]:
        """The maps in float32, over all query tokens: [layer, head, row, col] of all heads, or [chosen, row, col].

        On a CPU by NumPy: a thread that calls torch beside the model has torch's threads of its own, and both wait for
        cores.
        """
        if self.device.type != "cpu":
            return self.on_device().cpu().numpy()
        layers = [layer.cpu().numpy() for layer in self.layers]
        rows = np.concatenate([layer[0] if len(layer) == 1 else layer.mean(axis=0) for layer in layers])
        return rows.reshape(*self._shape) if self.heads is None else rows.reshape(*self._shape)[self.heads]

    def on_device(self) -> Float[torch.Tensor, "*head row col"]:
        """As `maps`, where the model is."""
        rows = torch.cat([layer.mean(dim=0).to(self.device) for layer in self.layers])
        return rows.reshape(self._shape) if self.heads is None else rows.reshape(self._shape)[self.heads]

    @property
    def _shape(self) -> tuple[int, ...]:
        """[layer, head, row, col], or [recorded, row, col] where some heads were asked for."""
        return (len(self.layers), -1, *self.grid) if self.heads is None else (-1, *self.grid)


def attend(lvlm: Lvlm, group: ImageGroup, image: Image, prompt: PromptConfig) -> Attention:
    """The attention pass for an image of a data set, see `attend_image`."""
    maps, geometry = attend_image(lvlm, image, [sample.asked for sample in group.samples], prompt)
    ids = tuple(sample.sample_id for sample in group.samples)
    return Attention(group.image_id, ids, maps, attention_sum(maps), geometry)


def attend_image(
    lvlm: Lvlm,
    image: Image,
    expressions: Sequence[str],
    prompt: PromptConfig,
    heads: Sequence[HeadIndex] | None = None,
) -> tuple[Float[np.ndarray, "sample *head row col"], Geometry]:
    """Maps from the query tokens of each expression to the image tokens, [sample, layer, head, row, col].

    With `heads` only theirs, [sample, chosen, row, col], and no layer beyond the deepest of them runs.

    Raises:
        DataError: an expression that cannot be asked, or whose answer has no row that the prompt's query asks for.
        ModelError: an expression for which the memory does not suffice, or attention that is not finite.
    """
    prepared, budget = lvlm.adapter.prepare(image, expressions, prompt), Budget.of(None, lvlm.device)
    if prompt.asks:
        # Only here: answers are written with the parts of this pass.
        from locheads.models.answer_rows import behind_answers

        prepared = behind_answers(lvlm, prepared, prompt, budget)
    (found,) = attend_prepared(lvlm, [prepared], budget, heads)
    maps = [one for one in found if one is not None]
    if len(maps) < len(found):
        raise ModelError(NO_MEMORY)
    stack = np.stack([one.maps() for one in maps])
    if not np.isfinite(stack).all():
        raise ModelError(NOT_FINITE)
    return stack, prepared.geometry


def attend_prepared(
    lvlm: Lvlm, images: Sequence[PreparedInput], budget: Budget, heads: Sequence[HeadIndex] | None = None
) -> list[list[QueryRows | None]]:
    """Per image and expression what its maps are made of; None where even one does not fit into the memory."""
    strips = [strip for image in images for strip in strips_of(lvlm, image)]
    flat: list[QueryRows | None] = []
    for chunk in chunks(strips, budget):
        flat += with_halving(lambda some: _forward(lvlm, some, heads), chunk, budget)
    found = iter(flat)
    return [list(islice(found, len(image.suffixes))) for image in images]


def attend_groups(
    lvlm: Lvlm,
    batch: Sequence[tuple[ImageGroup, PreparedInput]],
    budget: Budget,
    heads: Sequence[HeadIndex] | None = None,
) -> list[list[QueryRows | None]]:
    """`attend_prepared` of images of a data set."""
    return attend_prepared(lvlm, [prepared for _, prepared in batch], budget, heads)


def strips_of(lvlm: Lvlm, image: PreparedInput) -> list[Strip]:
    """The image's expressions as rows of a batch: one row where the family may share it, else one each."""
    return whole(image) if shares(lvlm, image) else single(image)


def shares(lvlm: Lvlm, image: PreparedInput) -> bool:
    """Whether the image's expressions go into one strip."""
    match lvlm.adapter.sharing:
        case Sharing.plain:
            return False
        case Sharing.packed:
            return _fits_the_window(lvlm, image)
        case _:
            assert_never(lvlm.adapter.sharing)


def _fits_the_window(lvlm: Lvlm, image: PreparedInput) -> bool:
    # A mask of ours replaces the family's, which would hide what lies beyond a sliding window.
    window = getattr(lvlm.model.config.get_text_config(decoder=True), "sliding_window", None)
    return window is None or len(image.prefix) + max(len(suffix) for suffix in image.suffixes) <= window


@torch.inference_mode()
def _forward(lvlm: Lvlm, strips: Sequence[Strip], heads: Sequence[HeadIndex] | None) -> list[QueryRows]:
    """One forward pass -> per expression the rows of its query tokens."""
    shared = shares(lvlm, strips[0].image)
    batch = collate(strips, shared)
    by_layer, depth = _heads_by_layer(lvlm, heads)
    queries, keys = batch.queries.to(lvlm.device), batch.keys.to(lvlm.device)
    with recording(queries, keys, by_layer, depth, batch.causal_prefix, batch.counts) as recorder:
        run_batch(lvlm, batch)
    recorded = {head: i for i, head in enumerate(sorted(set(heads or ())))}
    order = None if heads is None else [recorded[head] for head in heads]
    return list(_per_expression(_of_all_layers(lvlm, recorder, batch), strips, order))


def _of_all_layers(lvlm: Lvlm, recorder: Recorder, batch: Batch) -> list[Float[torch.Tensor, "query head key"]]:
    """The rows of every layer that was asked for: zeros of one that does not attend."""
    text = lvlm.model.config.get_text_config(decoder=True)
    every = dict.fromkeys(range(text.num_hidden_layers), range(text.num_attention_heads))
    found = dict(zip(recorder.layers, recorder.rows, strict=True))
    for layer in set(every) - set(attending_layers(text)):
        n_heads = len((recorder.heads or every).get(layer, ()))
        found[layer] = torch.zeros(sum(batch.counts), n_heads, batch.keys.shape[1], device=lvlm.device)
    return [found[layer] for layer in recorder.heads or every]


def _heads_by_layer(lvlm: Lvlm, heads: Sequence[HeadIndex] | None) -> tuple[dict[int, list[int]] | None, int | None]:
    """-> (heads per layer in order, None for all; how many layers have to run, None for no early exit)."""
    if heads is None:
        depth = int(lvlm.model.config.get_text_config(decoder=True).num_hidden_layers)
        return None, None if _is_offloaded(lvlm) else depth
    by_layer: dict[int, list[int]] = defaultdict(list)
    for head in sorted(set(heads)):
        by_layer[head.layer].append(head.head)
    return dict(by_layer), None if _is_offloaded(lvlm) else max(by_layer) + 1


def _is_offloaded(lvlm: Lvlm) -> bool:
    """Weights that come and go during the pass would stay where they are if it were left."""
    return bool({"cpu", "disk"} & {str(place) for place in getattr(lvlm.model, "hf_device_map", {}).values()}) and (
        lvlm.device.type != "cpu"
    )


def run_batch(lvlm: Lvlm, batch: Batch) -> None:
    """One forward pass of the model without its head. Raises ModelError where the model cannot run."""
    model, once = lvlm.model.base_model, _can_look_once(lvlm, batch)
    inputs = model_inputs(lvlm, batch, once)
    failed = boundary("The model's forward pass failed", ModelError, PARTS, lambda e: is_done(e) or is_out_of_memory(e))
    with ONE_PASS, failed, _features_repeated(model, batch.copies) if once else nullcontext():
        # base_model: no logits are needed, so the LM head does not run.
        model(**inputs, use_cache=False)


def model_inputs(lvlm: Lvlm, batch: Batch, once: bool = False) -> dict[str, torch.Tensor]:
    """What the model's forward takes, where the model is; the images' tensors for every strip, or each `once`."""
    tensors = batch.tensors(once) | batch.token_types | {"input_ids": batch.input_ids, "attention_mask": batch.mask}
    if batch.position_ids is not None:
        tensors["position_ids"] = batch.position_ids
    dtype = lvlm.model.dtype
    return {k: v.to(lvlm.device, dtype if v.is_floating_point() else None) for k, v in tensors.items()}


def logits_at(
    lvlm: Lvlm, inputs: dict[str, torch.Tensor], tokens: Int[torch.Tensor, "token"], **options: Any
) -> Float[torch.Tensor, "token word"]:
    """One forward pass of the model over a single row -> the logits in float32 of what follows these of its tokens."""
    tokens = tokens.to(lvlm.device)
    chooses = "logits_to_keep" in signature(lvlm.model.forward).parameters
    only = {"logits_to_keep": tokens} if chooses else {}
    logits: torch.Tensor = lvlm.model(**inputs, **only, **{"use_cache": False, **options}).logits[0]
    return (logits if chooses else logits[tokens]).float()


def _can_look_once(lvlm: Lvlm, batch: Batch) -> bool:
    """Whether strips of one image can be given the same vision features, one block of them per image."""
    # One view as [1, 3, height, width], and nothing else.
    shapes = [p.tensors["pixel_values"].shape for p in batch.images if p.tensors.keys() == {"pixel_values"}]
    simple = len(shapes) == len(batch.images) and all(len(shape) == 4 and shape[0] == 1 for shape in shapes)
    return max(batch.copies) > 1 and simple and hasattr(lvlm.model.base_model, "get_image_features")


@contextmanager
def _features_repeated(model: Any, copies: Sequence[int]) -> Iterator[None]:
    """While open, `model` looks at each image once and gives its features to that many strips."""
    look = model.get_image_features

    def repeated(*arguments: Any, **options: Any) -> Any:
        output = look(*arguments, **options)
        # Llama 4 takes the tower's own output.
        name = "last_hidden_state" if getattr(output, "pooler_output", None) is None else "pooler_output"
        features = getattr(output, name)
        if isinstance(features, list | tuple):  # Llava's: one per image
            setattr(output, name, [one for one, n in zip(features, copies, strict=True) for _ in range(n)])
        else:
            times = torch.tensor(copies, device=features.device)
            setattr(output, name, features.repeat_interleave(times, dim=0))
        return output

    model.get_image_features = repeated
    try:
        yield
    finally:
        del model.get_image_features


def _per_expression(
    layers: Sequence[Float[torch.Tensor, "query head key"]], strips: Sequence[Strip], order: list[int] | None
) -> Iterator[QueryRows]:
    start = 0
    for strip in strips:
        image, n_cells = strip.image, len(strip.image.image_tokens)
        for i in strip.suffixes:
            first, last = image.spans[i]
            end = start + last - first
            own = [layer[start:end, :, :n_cells] for layer in layers]
            if image.picked is not None:
                own = [layer[list(image.picked[i])] for layer in own]
            yield QueryRows(own, (image.geometry.rows, image.geometry.cols), order)
            start = end
