"""What the model is given against what the checkpoint's own processor makes of the same image and text."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from locheads.errors import DataError, ModelError, boundary
from locheads.geometry import Preprocess
from locheads.models.adapters import FamilyAdapter, PreparedInput
from locheads.models.config import PromptConfig, Query
from locheads.models.findings import Finding, Outcome
from locheads.models.load import Lvlm
from locheads.models.painted import noise
from locheads.models.prompts import IMAGE, fill, prompt_text

EXPRESSION = "the red circle"
OF_THE_TEXT = ("input_ids", "attention_mask", "labels")
NOT_OF_THE_IMAGE = {*OF_THE_TEXT, "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids"}
SHAPES = ((448, 448), (640, 320), (320, 640))
TOKENIZER = "download tokenizer.json and tokenizer_config.json again; what was changed in them changes the maps."
OTHER_TYPES = "this family needs an adapter of its own (models/adapters/TEMPLATE.md)."
OTHER_PIXELS = "download preprocessor_config.json again, or write an adapter (models/adapters/TEMPLATE.md)."


def check_prompt(lvlm: Lvlm, prompt: PromptConfig) -> list[Finding]:
    """Token ids, pixel tensors, and in words what stands where in the prompt.

    Raises:
        DataError, ConfigError, ModelError: the model cannot be asked in this prompt.
    """
    adapter = lvlm.adapter
    # Every preparation of ours leaves a square as it is, so that there the processor alone is compared.
    native = adapter.preprocess == Preprocess.native
    images = [noise(*shape, seed=0) for shape in (SHAPES if native else SHAPES[:1])]
    prepared = [adapter.prepare(image, [EXPRESSION], prompt) for image in images]
    words = [_image_tokens(adapter, prepared[0]), _query(adapter, prepared[0]), _expression(adapter, images[0], prompt)]
    try:
        with boundary("The processor's own call fails", ModelError, "nothing can be compared with it."):
            stock = [stock_inputs(adapter, image, prompt) for image in images]
    except ModelError as error:
        return [Finding("token ids and pixels", Outcome.not_applicable, str(error)), *words]
    shown = ", ".join(f"{image.width} x {image.height}" for image in images)
    return [_same_ids(adapter, prepared, stock, shown), _same_pixels(adapter, prepared, stock, shown), *words]


def stock_inputs(adapter: FamilyAdapter, image: Image.Image, prompt: PromptConfig, expression: str = EXPRESSION) -> Any:
    """What the checkpoint's processor makes of image and text in one call of its own, in which ours has no part."""
    processor, question = adapter.processor, prompt_text(prompt, expression)
    if not prompt.chat:
        text = fill(question, IMAGE, adapter.wrapping.format(adapter.placeholder)).text
        return processor(images=image, text=text, return_tensors="pt", **adapter.stock_options)
    parts = [{"type": "image", "image": image}, {"type": "text", "text": question.text}]
    return processor.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=True, add_generation_prompt=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip


def _same_ids(adapter: FamilyAdapter, ours: Sequence[PreparedInput], stock: Sequence[Any], shown: str) -> Finding:
    for own, theirs in zip(ours, stock, strict=True):
        ids, expected = _ids(own).tolist(), theirs["input_ids"][0].tolist()
        if ids != expected:
            pairs = zip([*ids, None], [*expected, None], strict=False)
            at, (a, b) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
            a, b = (_shown(adapter, token) for token in (a, b))
            text = f"{len(ids)} tokens, the processor's own call gives {len(expected)}; token {at} is {a}, not {b}"
            return Finding("token ids", Outcome.failed, text, TOKENIZER)
        if own.token_types is not None and not torch.equal(_types(own), theirs[own.token_types_name][0]):
            text = f"the same, but not their {own.token_types_name}"
            return Finding("token ids", Outcome.failed, text, OTHER_TYPES)
    return Finding("token ids", Outcome.passed, f"those of the processor's own call, on images of {shown}")


def _types(own: PreparedInput) -> torch.Tensor:
    assert own.token_types is not None
    return torch.cat([own.token_types, torch.zeros_like(own.suffixes[0])])


def _same_pixels(adapter: FamilyAdapter, ours: Sequence[PreparedInput], stock: Sequence[Any], shown: str) -> Finding:
    for own, theirs in zip(ours, stock, strict=True):
        left_out = {*NOT_OF_THE_IMAGE, *adapter.not_for_model, own.token_types_name}
        expected = {key: theirs[key] for key in theirs if key not in left_out}
        if own.tensors.keys() != expected.keys():
            text = f"{', '.join(own.tensors)}; the processor's own call gives {', '.join(expected)}"
            return Finding("pixels", Outcome.failed, text, OTHER_PIXELS)
        for key, tensor in own.tensors.items():
            if not torch.equal(tensor, torch.as_tensor(expected[key])):
                text = f"{key} differs from that of the processor's own call"
                return Finding("pixels", Outcome.failed, text, OTHER_PIXELS)
    return Finding("pixels", Outcome.passed, f"those of the processor's own call, on images of {shown}")


def _image_tokens(adapter: FamilyAdapter, own: PreparedInput) -> Finding:
    cells = own.image_tokens
    token = _shown(adapter, int(own.prefix[cells[0]]))
    text = f"{token} from {int(cells.min())} to {int(cells.max())}: {own.geometry.rows} x {own.geometry.cols} cells"
    return Finding("image tokens", Outcome.passed, text)


def _query(adapter: FamilyAdapter, own: PreparedInput) -> Finding:
    first, end = own.spans[0]
    tokens = ", ".join(_shown(adapter, int(token)) for token in own.suffixes[0][first:end])
    after = f"{len(own.suffixes[0]) - end} of {len(_ids(own))} tokens follow"
    return Finding("query token", Outcome.passed, f"{tokens}; {after}")


def _expression(adapter: FamilyAdapter, image: Image.Image, prompt: PromptConfig) -> Finding:
    """The tokens of the expression must be its text, whichever of them is asked."""
    try:
        own = adapter.prepare(image, [EXPRESSION], replace(prompt, query=Query.expression_mean))
    except DataError as error:
        return Finding("expression", Outcome.not_applicable, str(error))
    first, end = own.spans[0]
    text = adapter.processor.tokenizer.decode(own.suffixes[0][first:end])
    if EXPRESSION in " ".join(text.split()):
        return Finding("expression", Outcome.passed, f"{EXPRESSION!r} is {end - first} tokens, read back as {text!r}")
    return Finding("expression", Outcome.failed, f"{EXPRESSION!r} is read back as {text!r}", TOKENIZER)


def _ids(own: PreparedInput) -> torch.Tensor:
    return torch.cat([own.prefix, own.suffixes[0]])


def _shown(adapter: FamilyAdapter, token: int | None) -> str:
    return "none" if token is None else f"{adapter.processor.tokenizer.decode([token])!r} ({token})"
