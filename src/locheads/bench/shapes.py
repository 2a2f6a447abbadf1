"""Models of the benchmark: real LLaVA classes with random weights, because speed does not depend on their values."""

from dataclasses import dataclass

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from locheads.geometry import Preprocess, square_geometry
from locheads.models.adapters import PreparedInput
from locheads.types import HeadIndex

IMAGE_TOKEN = 3
PATCH = 14


@dataclass(frozen=True)
class Shape:
    """A model and the prompts that it is asked."""

    name: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    grid: int
    """Patches per side."""
    prefix: int
    """Tokens up to and including the last image token."""
    suffixes: int
    """Expressions per image."""
    suffix_length: int
    """Tokens of each on average."""
    deepest: int
    """The deepest layer, from 0, among the heads that grounding needs."""
    dtype: str
    device: str
    rounds: int
    singles: int
    """How many of an image's expressions the slow ways are timed on, one by one."""
    images: int
    """Images per forward pass of the batched steps; 1: no such steps."""

    def needed_heads(self) -> list[HeadIndex]:
        """Three heads, the paper's number."""
        return [HeadIndex(self.deepest - 1, 0), HeadIndex(self.deepest, 1), HeadIndex(self.deepest, self.heads - 1)]


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny", 64, 4, 4, 172, 200, 32, 2, 6, 44, 3, 8, 1, "float32", "cpu", 2, 2, 2),
        Shape("small", 1024, 16, 16, 2752, 32_000, 256, 12, 24, 592, 7, 25, 6, "float32", "cpu", 7, 2, 1),
        Shape("llava_1_5_7b", 4096, 32, 32, 11_008, 32_064, 1024, 24, 24, 620, 7, 8, 14, "bfloat16", "cuda", 7, 7, 20),
    )
}


def build(shape: Shape, device: torch.device) -> LlavaForConditionalGeneration:
    """The model on `device`, with queries and keys scaled so that rows are neither flat nor a single peak."""
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_hidden, intermediate_size=4 * shape.vision_hidden,
        num_hidden_layers=shape.vision_layers, num_attention_heads=max(shape.vision_hidden // 64, 1),
        image_size=shape.grid * PATCH, patch_size=PATCH, projection_dim=shape.vision_hidden,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.heads, vocab_size=shape.vocabulary,
        max_position_embeddings=4096,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN)
    torch.manual_seed(0)
    # Logits with a standard deviation of about 3, from weights that transformers draws with 0.02.
    sharpness = (3 / (0.02**2 * shape.hidden * (shape.hidden / shape.heads) ** 0.5)) ** 0.5
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, shape.dtype))
    try:
        with device, torch.no_grad():
            model = LlavaForConditionalGeneration(config).eval()
            for name, weight in model.named_parameters():
                if "language_model" in name and ("q_proj" in name or "k_proj" in name):
                    weight.mul_(sharpness)
    finally:
        torch.set_default_dtype(before)
    return model


def image(shape: Shape, seed: int = 0) -> PreparedInput:
    """An image of noise and expressions of random words, as an adapter would give them."""
    generator = torch.Generator().manual_seed(seed)
    cells, side = shape.grid**2, shape.grid * PATCH

    def words(n: int) -> torch.Tensor:
        return torch.randint(4, shape.vocabulary, (n,), generator=generator)

    # Lengths differ, as real expressions do.
    lengths = [max(2, shape.suffix_length + (i % 5) - 2) for i in range(shape.suffixes)]
    return PreparedInput(
        prefix=torch.cat([words(shape.prefix - cells), torch.full((cells,), IMAGE_TOKEN)]),
        suffixes=tuple(words(n) for n in lengths),
        spans=tuple((n - 1, n) for n in lengths),
        image_tokens=torch.arange(shape.prefix - cells, shape.prefix),
        tensors={"pixel_values": torch.randn(1, 3, side, side, generator=generator)},
        geometry=square_geometry(side, side, side, shape.grid, Preprocess.pad),
    )


def packed_flop(shape: Shape) -> float:
    """Arithmetic that the packed form cannot avoid for one image: tower, projector, and the decoder's layers up to
    the projections of the deepest needed one. 2 per multiplication and addition; attention over the causal half."""
    tokens = shape.prefix + shape.suffixes * shape.suffix_length
    h, m = shape.hidden, shape.intermediate
    linear = 2 * tokens * (4 * h * h + 3 * h * m)
    attention = 2 * tokens * tokens * h
    decoder = shape.deepest * (linear + attention) + 2 * tokens * 2 * h * h
    v, patches = shape.vision_hidden, shape.grid**2 + 1
    # The second last layer's features are taken.
    tower = (shape.vision_layers - 1) * (2 * patches * 12 * v * v + 4 * patches * patches * v)
    projector = 2 * shape.grid**2 * (v * h + h * h)
    return float(decoder + tower + projector)
