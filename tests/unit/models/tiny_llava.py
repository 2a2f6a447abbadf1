"""A Llava of the real classes, so small that building it takes no time, with attention worth looking at."""

import copy
from importlib import resources

import torch
from transformers import AutoProcessor, CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers import LlavaForConditionalGeneration as Llava

from locheads.geometry import Preprocess
from locheads.models import capture
from locheads.models.adapters.square_view import LlavaAdapter
from locheads.models.load import Lvlm

SIDE, PATCH, LAYERS, HEADS, IMAGE_TOKEN, VOCABULARY = 32, 8, 3, 4, 4, 124
CELLS = (SIDE // PATCH) ** 2
SHIPPED = str(resources.files("locheads.pocket") / "weights")


def config(kv_heads: int = HEADS) -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE,
        patch_size=PATCH, projection_dim=16,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=kv_heads, vocab_size=VOCABULARY, max_position_embeddings=256,
    )  # fmt: skip
    return LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN, vision_feature_layer=-1)


def build(kv_heads: int = HEADS, seed: int = 0) -> Llava:
    """Queries and keys are sharpened: near-uniform rows agree whatever the code does."""
    torch.manual_seed(seed)
    model = Llava(config(kv_heads)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "language_model" in name and ("q_proj" in name or "k_proj" in name):
                weight.mul_(16)
            if "embed_tokens" in name or "projector" in name:
                weight.mul_(8)
    return model


def twin(model: Llava, implementation: str) -> Llava:
    """The same weights with one of transformers' own attention functions."""
    other = Llava(copy.deepcopy(model.config)).eval()
    other.load_state_dict(model.state_dict())
    other.set_attn_implementation(implementation)
    return other


def lvlm(model: Llava, how: Preprocess = Preprocess.pad) -> Lvlm:
    """Ready for the attention pass, with the tokenizer and image processor that the package ships."""
    capture.install(model)
    processor = AutoProcessor.from_pretrained(SHIPPED)
    return Lvlm(model, LlavaAdapter(processor, model.config, how), torch.device("cpu"))
