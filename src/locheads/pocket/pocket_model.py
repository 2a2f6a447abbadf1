"""The pocket LVLM: a stock LLaVA of about two million parameters, with its processor. 24 x 24 image tokens."""

from pathlib import Path

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from locheads.pocket.scenes import CANVAS, PATCH
from locheads.pocket.tokenizer import BOS, EOS, IMAGE, PAD, build_tokenizer, vocabulary

WEIGHTS = Path(__file__).parent / "weights"
GRID = CANVAS // PATCH
HIDDEN, LAYERS, HEADS = 128, 8, 8
_NEIGHBOURS = ((-4, 0), (4, 0), (0, -4), (0, 4), (-2, -2), (-2, 2), (2, -2), (2, 2))  # rows, columns, per vision head
_PAIRS = (10, 17, 24, 31)  # the frequencies by which the vision heads find them
_SHARPNESS = 2.6  # of their look: about three by three patches
ROPE_THETA = 1e8  # with 16 numbers per head, most pairs must stay still over 600 positions to match words with patches


def build_config(layers: int = LAYERS) -> LlavaConfig:
    """Shapes of the model. `initializer_range` 0.08: the usual 0.02 leaves attention uniform at this width."""
    words = vocabulary()
    vision = CLIPVisionConfig(
        hidden_size=HIDDEN, intermediate_size=512, num_hidden_layers=1, num_attention_heads=HEADS,
        image_size=CANVAS, patch_size=PATCH, projection_dim=HIDDEN, initializer_range=0.08,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(words), hidden_size=HIDDEN, intermediate_size=256, num_hidden_layers=layers,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=1024, initializer_range=0.08,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=words.index(BOS), eos_token_id=words.index(EOS), pad_token_id=words.index(PAD),
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=words.index(IMAGE),
        vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=GRID * GRID,
        tie_word_embeddings=False,
    )  # fmt: skip


def build_model(seed: int, layers: int = LAYERS) -> LlavaForConditionalGeneration:
    """A model with random weights, but for the starts below, without which words and patches meet very late."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(build_config(layers))
    with torch.no_grad():
        _start_patches(model)
        _start_words(model)
    return model


def _start_patches(model: LlavaForConditionalGeneration) -> None:
    """Positions start as sines of row and column. Each vision head starts out reading one neighbour, as a
    convolution would: so edges, corners and extent are there to be learned in a single layer.

    A turn of each (sine, cosine) pair by its frequency times the step moves the query to the neighbour.
    """
    tower = model.model.vision_tower
    frequencies = torch.pi / GRID * 2.0 ** torch.linspace(0, 3.5, HIDDEN // 4)
    tower.embeddings.patch_embedding.weight.normal_(0, 0.05)
    tower.embeddings.position_embedding.weight[1:] = _grid_sines(frequencies)
    tower.embeddings.position_embedding.weight[0].zero_()
    attention = tower.encoder.layers[0].self_attn
    query, key = attention.q_proj.weight.zero_(), attention.k_proj.weight.zero_()
    half = HIDDEN // 4
    for head, steps in enumerate(_NEIGHBOURS):
        row = head * (HIDDEN // HEADS)
        for axis, step in enumerate(steps):
            for index in _PAIRS:
                sine, cosine = axis * 2 * half + index, (axis * 2 + 1) * half + index
                tower.embeddings.patch_embedding.weight[[sine, cosine]] = 0
                turn = frequencies[index] * step
                key[row, sine], key[row + 1, cosine] = _SHARPNESS, _SHARPNESS
                query[row, sine], query[row, cosine] = _SHARPNESS * turn.cos(), _SHARPNESS * turn.sin()
                query[row + 1, sine], query[row + 1, cosine] = -_SHARPNESS * turn.sin(), _SHARPNESS * turn.cos()
                row += 2


def _start_words(model: LlavaForConditionalGeneration) -> None:
    """Word vectors are large and share one direction, by which three heads of layer 0 start out reading the last
    few words: so the end of the prompt knows its expression from the first step on."""
    words = model.get_input_embeddings().weight
    words.normal_(0, 0.5)
    shared = torch.nn.functional.normalize(torch.randn(HIDDEN), dim=0)
    words += 4 * shared
    width = HIDDEN // HEADS
    attention = model.model.language_model.layers[0].self_attn
    for head, pairs in enumerate(((1,), (0, 1), (1,))):
        rows = slice(head * width, (head + 1) * width)
        attention.v_proj.weight[rows] -= attention.v_proj.weight[rows] @ shared[:, None] * shared
        attention.v_proj.weight[rows] *= 2
        attention.o_proj.weight[:, rows] *= 2
        for pair in pairs:
            attention.q_proj.weight[head * width + pair] = 0.6 * shared
            attention.k_proj.weight[head * width + pair] = 0.6 * shared
            attention.q_proj.weight[head * width + pair + width // 2] = 0
            attention.k_proj.weight[head * width + pair + width // 2] = 0


def build_processor() -> LlavaProcessor:
    """Pads an image to a square with the mean colour, as the original LLaVA does, and brings it to 192 x 192."""
    images = LlavaImageProcessorPil(
        do_pad=True, size={"height": CANVAS, "width": CANVAS}, do_center_crop=False,
        crop_size={"height": CANVAS, "width": CANVAS},
    )  # fmt: skip
    return LlavaProcessor(
        image_processor=images, tokenizer=build_tokenizer(), patch_size=PATCH,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token=IMAGE,
    )  # fmt: skip


def export(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Writes weights, tokenizer and processor files that `from_pretrained` of the stock classes reads."""
    model.save_pretrained(folder)
    build_processor().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def load_model(folder: Path = WEIGHTS) -> LlavaForConditionalGeneration:
    """The model in `folder`, in evaluation mode, float32."""
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def _grid_sines(frequencies: torch.Tensor) -> torch.Tensor:
    """Float [GRID * GRID, 4 n] for n frequencies: sines and cosines of the row, then of the column."""
    angles = torch.arange(GRID)[:, None] * frequencies[None, :]
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis[:, None, :].expand(GRID, GRID, -1), axis[None, :, :].expand(GRID, GRID, -1)
    return torch.cat([rows, columns], dim=2).reshape(GRID * GRID, 4 * len(frequencies))
