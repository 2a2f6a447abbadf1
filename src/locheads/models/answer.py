"""The LVLM's own words: greedy answers by transformers' `generate`, from the inputs of the attention pass."""

from collections.abc import Sequence
from inspect import signature

import torch
from jaxtyping import Int
from PIL.Image import Image
from torch import Tensor

from locheads.errors import ModelError, boundary
from locheads.geometry import Geometry
from locheads.models.adapters import PreparedInput
from locheads.models.batching import is_out_of_memory
from locheads.models.config import PromptConfig
from locheads.models.identity import PARTS
from locheads.models.load import Lvlm


def prepare_to_answer(lvlm: Lvlm) -> None:
    """Gives the model the library's own attention back: nothing is recorded while it writes.

    Raises ModelError as `check_makes_words`.
    """
    check_makes_words(lvlm)
    try:
        lvlm.model.set_attn_implementation("sdpa")
    except ValueError:  # Gemma 2, whose logits are capped
        lvlm.model.set_attn_implementation("eager")


def check_makes_words(lvlm: Lvlm) -> None:
    """Raises ModelError where its checkpoint lacks the weights that make words."""
    if not lvlm.has_head:
        raise ModelError(
            f"The checkpoint of {lvlm.model.name_or_path} has no lm_head.weight, so its model cannot write an answer: "
            "download or save it again with its head; grounding by attention needs none."
        )


def answer_image(
    lvlm: Lvlm, image: Image, expressions: Sequence[str], prompt: PromptConfig, max_new_tokens: int
) -> tuple[list[str], Geometry]:
    """-> (per expression what the model says, where the image lies in its input).

    One expression at a time: a batch would need padding on the left, which changes the rounding and so, at times, a
    greedy answer. Raises DataError for an image or an expression that cannot be asked.
    """
    prepared = lvlm.adapter.prepare(image, expressions, prompt)
    texts = [_answer(lvlm, prepared, suffix, max_new_tokens) for suffix in prepared.suffixes]
    return texts, prepared.geometry


@torch.inference_mode()
def _answer(lvlm: Lvlm, prepared: PreparedInput, suffix: Int[Tensor, "suffix"], max_new_tokens: int) -> str:
    model, tokenizer = lvlm.model, lvlm.adapter.processor.tokenizer
    ids = torch.cat([prepared.prefix, suffix])[None].to(lvlm.device)
    tensors = {
        name: tensor.to(lvlm.device, model.dtype if tensor.is_floating_point() else None)
        for name, tensor in {**prepared.tensors, **_token_types(lvlm, prepared, len(suffix))}.items()
    }
    with boundary("The model cannot write an answer", ModelError, PARTS, is_out_of_memory):
        generated = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            **tensors,
        )
    # Location tokens may count as special, so only the end is cut.
    text = tokenizer.decode(generated[0, ids.shape[1] :], skip_special_tokens=False)
    for token in (tokenizer.eos_token, tokenizer.pad_token):
        text = text.split(token)[0] if token else text
    return text.strip()


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
