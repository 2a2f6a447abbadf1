"""The LVLM's own words: greedy answers, to all expressions about an image at once where the family allows it."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from locheads.errors import ModelError, boundary
from locheads.geometry import Geometry
from locheads.models.adapters import PreparedInput
from locheads.models.attend import shares, strips_of
from locheads.models.batching import Budget, Strip, is_out_of_memory, with_halving
from locheads.models.config import PromptConfig
from locheads.models.decode import Together
from locheads.models.identity import PARTS
from locheads.models.load import Lvlm
from locheads.types import Answer


def check_makes_words(lvlm: Lvlm) -> None:
    """Raises ModelError where the checkpoint lacks the weights that make words."""
    if not lvlm.has_head:
        raise ModelError(
            f"The checkpoint of {lvlm.model.name_or_path} has no lm_head.weight, so its model cannot write an answer: "
            "download or save it again with its head; grounding by attention needs none."
        )


def answer_image(
    lvlm: Lvlm, image: Image, expressions: Sequence[str], prompt: PromptConfig
) -> tuple[list[Answer | None], Geometry]:
    """-> (as `answer_prepared`, where the image lies in the model's input). Raises DataError for an image or an
    expression that cannot be asked."""
    prepared = lvlm.adapter.prepare(image, expressions, prompt)
    budget = Budget.of(None, lvlm.device)
    return answer_prepared(lvlm, prepared, prompt.max_new_tokens, budget), prepared.geometry


def answer_prepared(lvlm: Lvlm, image: PreparedInput, limit: int, budget: Budget) -> list[Answer | None]:
    """Per expression what the model says, in `limit` tokens at most; None where even one does not fit into the memory.

    Raises ModelError where it cannot write an answer."""
    found: list[Answer | None] = []
    for strip in strips_of(lvlm, image):
        found += with_halving(lambda some: [a for one in some for a in _answers(lvlm, one, limit)], [strip], budget)
    return found


@torch.inference_mode()
def _answers(lvlm: Lvlm, strip: Strip, limit: int) -> list[Answer]:
    """Through `generate`, whose settings of the checkpoint count: what ends an answer, what may not be said twice."""
    image, model, tokenizer = strip.image, lvlm.model, lvlm.adapter.processor.tokenizer
    together = shares(lvlm, image)
    suffix = image.suffixes[strip.suffixes[0]]
    ids = torch.cat([image.prefix, suffix])[None].to(lvlm.device)
    with boundary("The model cannot write an answer", ModelError, PARTS, is_out_of_memory):
        generated = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            **({"custom_generate": _all_of(lvlm, strip, limit)} if together else _tensors(lvlm, image, len(suffix))),
        )
    new = generated if together else [generated[0, ids.shape[1] :].tolist()]
    return [_answer(tokenizer, one, _ends(model.generation_config)) for one in new]


def _all_of(lvlm: Lvlm, strip: Strip, limit: int) -> Any:
    """What `generate` calls with the logits processors that it made of the checkpoint's settings."""

    def decode(_: Any, input_ids: Tensor, logits_processor: Any, generation_config: Any, **__: Any) -> list[list[int]]:
        def choose(before: Int[Tensor, "token"], logits: Float[Tensor, "word"]) -> int:
            return int(logits_processor(before[None].to(logits.device), logits[None]).argmax())

        return Together(lvlm, strip, choose, _ends(generation_config), limit).run()

    return decode


def _ends(config: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    ends = config.eos_token_id
    return frozenset() if ends is None else frozenset([ends] if isinstance(ends, int) else ends)


def _answer(tokenizer: Any, ids: list[int], ends: frozenset[int]) -> Answer:
    ended = bool(ids) and ids[-1] in ends
    ids = ids[:-1] if ended else ids
    # Location tokens may count as special, so they are kept.
    texts = [tokenizer.decode(ids[:n], skip_special_tokens=False) if n else "" for n in range(len(ids) + 1)]
    # The text of a token that only begins a letter ends in a replacement character.
    places = [0]
    for text in texts[1:-1]:
        places.append(min(max(places[-1], len(text.rstrip("\ufffd"))), len(texts[-1])))
    places = [*places[: len(ids)], len(texts[-1])]
    return Answer(tuple(ids), tuple(texts[-1][places[n] : places[n + 1]] for n in range(len(ids))), ended)


def _tensors(lvlm: Lvlm, image: PreparedInput, length: int) -> dict[str, Tensor]:
    """What else the model takes for the image and a suffix of this length."""
    dtype = lvlm.model.dtype
    return {
        name: tensor.to(lvlm.device, dtype if tensor.is_floating_point() else None)
        for name, tensor in {**image.tensors, **_token_types(lvlm, image, length)}.items()
    }


def _token_types(lvlm: Lvlm, prepared: PreparedInput, length: int) -> dict[str, Tensor]:
    """The kinds of tokens, where the family's `forward` asks for them."""
    kinds = {}
    if prepared.token_types is not None:
        kinds[prepared.token_types_name] = torch.nn.functional.pad(prepared.token_types, (0, length))[None]
    if prepared.prefix_positions is not None and "mm_token_type_ids" in signature(lvlm.model.forward).parameters:
        # M-RoPE: the model works the positions out itself, from where the image's tokens are.
        image = torch.zeros(1, len(prepared.prefix) + length, dtype=torch.long)
        image[:, prepared.image_tokens] = 1
        kinds["mm_token_type_ids"] = image
    return kinds
