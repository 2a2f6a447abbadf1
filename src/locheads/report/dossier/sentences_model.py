"""What the settings of the LVLM, of the engine and of the prompt say in a methods paragraph."""

from typing import Any

from locheads.config import Stage
from locheads.errors import ConfigError
from locheads.geometry import Preprocess
from locheads.models.config import PROBE, DType, ImageBackend, Query, query_of
from locheads.models.engine import ALL_MAPS, DeviceMap, OtherVersions, Quantization, RestAttention, top_heads_kept
from locheads.report.dossier.choice import Choice, Look, Not, Only, filled, shown
from locheads.report.tables import query_row

ASKS_IN_WORDS = (
    {"stage": Only((Stage.direct,))},
    {"prompt.query": Not((Query.last, Query.expression_last, Query.expression_mean), Query.answer_mean)},
)
"""Where the model's own answer is had."""


def _maps(value: Any, _: Look) -> str:
    if value == ALL_MAPS:
        return "The attention maps of all heads were kept."
    if n := top_heads_kept(str(value)):
        return f"Of the {n} most frequent heads, and of those that the baselines need, the attention maps were kept."
    return f"Only the attention maps of the heads of {shown(value)} were kept, and later layers did not run."


def _adapter(value: Any, _: Look) -> str:
    if value is None:
        return "Its image tokens are found as its family has them."
    if value == PROBE:
        return "Where its image tokens look was asked of the loaded model itself (model.adapter=probe)."
    return f"Its image tokens are found by an adapter of the user's own, {shown(value)}."


def _query(value: Any, _: Look) -> str:
    try:
        query_of(str(value))
    except ConfigError:  # a record of another version
        return f"Attention is taken from the row {shown(value)}."
    return f"Attention is taken from {query_row(str(value))}."


MODEL = (
    Choice("model.name", filled("The settings call the LVLM {}.")),
    Choice("model.id", filled("Its checkpoint is {}.")),
    Choice("model.revision", filled("The revision is pinned to {}.", "No revision of it is pinned.")),
    Choice(
        "model.dtype",
        {
            DType.float32: "Its weights are 32-bit floating-point numbers (float32).",
            DType.bfloat16: "Its weights are 16-bit floating-point numbers of the kind bfloat16.",
            DType.float16: "Its weights are 16-bit floating-point numbers of the kind float16.",
        },
    ),
    Choice(
        "model.preprocess",
        {
            Preprocess.pad: "Bars of the mean colour make the image a square before it is resized.",
            Preprocess.center_crop: "The image's short side is resized, and the ends of the long side are cut off.",
            Preprocess.squash: "Both sides of the image are resized independently to a square.",
            Preprocess.native: "The checkpoint's own processor resizes the image as it comes.",
        },
    ),
    Choice(
        "model.tiles",
        {
            False: "Where the model cuts an image into tiles, maps have the grid of its view of the whole image.",
            True: "Where the model cuts an image into tiles, maps have the grid of the tiles.",
        },
    ),
    Choice(
        "model.image_backend",
        {
            ImageBackend.own: "The image processor is the one that the checkpoint was made with, as far as installed.",
            ImageBackend.pil: "The image processor is the one of transformers that works with PIL.",
            ImageBackend.torchvision: "The image processor is the one of transformers that works with torchvision.",
        },
    ),
    Choice(
        "model.trust_remote_code",
        {
            False: "No code of the checkpoint's repository ran.",
            True: "Code of the checkpoint's repository was allowed to run.",
        },
    ),
    Choice("model.adapter", _adapter),
    Choice("engine.device", filled("The device asked for is {}.")),
    Choice(
        "engine.device_map",
        {
            None: "All layers are on one device.",
            DeviceMap.auto: "The package accelerate spreads the layers over the devices by its rule auto.",
            DeviceMap.balanced: "The package accelerate spreads the layers over the devices by its rule balanced.",
            DeviceMap.sequential: "The package accelerate spreads the layers over the devices by its rule sequential.",
        },
    ),
    Choice(
        "engine.quantization",
        {
            Quantization["none"]: "The weights are not quantized.",
            Quantization["8bit"]: "The weights are quantized to 8 bits (bitsandbytes).",
            Quantization["4bit"]: "The weights are quantized to 4 bits (bitsandbytes).",
        },
    ),
    Choice(
        "engine.attention",
        {
            RestAttention.sdpa: "Attention outside of the decoder's recorded rows is PyTorch's scaled dot product.",
            RestAttention.flash: "Attention outside of the decoder's recorded rows is that of the package flash-attn.",
        },
    ),
    Choice("engine.maps", _maps, ({"stage": Not((Stage.direct,), Stage.report)},)),
    Choice(
        "engine.other_versions",
        {
            OtherVersions.recompute: "What is stored counts only where the same versions of code and packages made it.",
            OtherVersions.take: "What is stored counts also where other versions of code or packages made it.",
        },
    ),
)

PROMPT = (
    Choice("prompt.name", filled("The settings call the prompt {}.")),
    Choice(
        "prompt.template",
        filled("Its text is {}, in which <image> and {expression} stand for the image and the expression."),
    ),
    Choice(
        "prompt.chat",
        {
            False: "No chat template is put around it.",
            True: "The model's own chat template puts the roles and the image around it.",
        },
    ),
    Choice(
        "prompt.full_stop",
        {
            True: "An expression without a full stop at its end gets one.",
            False: "No full stop is added to an expression.",
        },
    ),
    Choice("prompt.query", _query, ({"stage": Not((Stage.direct,), Stage.report)},)),
    Choice("prompt.max_new_tokens", filled("The model's own answer has {} tokens at most."), ASKS_IN_WORDS),
)
