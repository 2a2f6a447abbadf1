"""The parts that transformers' own classes lack, each the smallest subclass that adds it.

Importing this makes them known to AutoConfig and AutoModelForImageTextToText under their `model_type`, so a converted
checkpoint loads like any other, without code from its folder.
"""

from typing import Any

from transformers import AutoConfig, AutoModelForImageTextToText

from locheads.models.variants.llava import LlavaVariantConfig, LlavaVariantForConditionalGeneration
from locheads.models.variants.mini_gemini import MiniGeminiConfig, MiniGeminiForConditionalGeneration

VARIANTS: dict[Any, Any] = {
    LlavaVariantConfig: LlavaVariantForConditionalGeneration,
    MiniGeminiConfig: MiniGeminiForConditionalGeneration,
}
"""Configuration -> model."""

for _config, _model in VARIANTS.items():
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForImageTextToText.register(_config, _model, exist_ok=True)

__all__ = [
    "VARIANTS",
    "LlavaVariantConfig",
    "LlavaVariantForConditionalGeneration",
    "MiniGeminiConfig",
    "MiniGeminiForConditionalGeneration",
]
