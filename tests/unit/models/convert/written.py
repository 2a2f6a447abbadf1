"""Tiny random checkpoints in the original formats, with the original's own forward pass beside each."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pieces
import plain
import torch
from family_parts import tokenizer
from PIL import Image
from torch import Tensor

HIDDEN, INTER, LAYERS, HEADS, KV_HEADS, THETA, EPS = 32, 48, 3, 4, 2, 5000.0, 1e-5
LANGUAGE = SimpleNamespace(layers=LAYERS, heads=HEADS, kv_heads=KV_HEADS, theta=THETA, eps=EPS)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Maker:
    """Random tensors: matrices that keep the size of what they map, norms around 1, queries and keys that peak."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.made: dict[str, Tensor] = {}

    def matrix(self, name: str, rows: int, cols: int, bias: bool = False, gain: float = 1.0) -> None:
        self.made[f"{name}.weight"] = plain.normal((rows, cols), self.generator, gain * cols**-0.5)
        if bias:
            self.made[f"{name}.bias"] = plain.normal((rows,), self.generator, 0.3)

    def norm(self, name: str, size: int, bias: bool = True) -> None:
        self.made[f"{name}.weight"] = plain.normal((size,), self.generator, 0.3, 1.0)
        if bias:
            self.made[f"{name}.bias"] = plain.normal((size,), self.generator, 0.3)

    def tensor(self, name: str, *shape: int, scale: float = 1.0, centre: float = 0.0) -> None:
        self.made[name] = plain.normal(shape, self.generator, scale, centre)

    def llama(self, vocabulary: int, prefix: str = "", layers: int = LAYERS) -> None:
        kv = HIDDEN // HEADS * KV_HEADS
        self.tensor(f"{prefix}model.embed_tokens.weight", vocabulary, HIDDEN)
        for i in range(layers):
            at = f"{prefix}model.layers.{i}."
            for name, rows, gain in (("q", HIDDEN, 2.0), ("k", kv, 2.0), ("v", kv, 1.0)):
                self.matrix(at + f"self_attn.{name}_proj", rows, HIDDEN, gain=gain)
            self.matrix(at + "self_attn.o_proj", HIDDEN, HIDDEN)
            self.tensor(at + "self_attn.rotary_emb.inv_freq", HIDDEN // HEADS // 2)
            self.matrix(at + "mlp.gate_proj", INTER, HIDDEN)
            self.matrix(at + "mlp.up_proj", INTER, HIDDEN)
            self.matrix(at + "mlp.down_proj", HIDDEN, INTER)
            self.norm(at + "input_layernorm", HIDDEN, bias=False)
            self.norm(at + "post_attention_layernorm", HIDDEN, bias=False)
        self.norm(f"{prefix}model.norm", HIDDEN, bias=False)
        self.matrix(f"{prefix}lm_head", vocabulary, HIDDEN)

    def clip(self, size: SimpleNamespace, prefix: str = "vision_model.") -> None:
        width = size.width
        self.tensor(prefix + "embeddings.class_embedding", width)
        self.tensor(
            prefix + "embeddings.patch_embedding.weight", width, 3, size.patch, size.patch, scale=0.3 / size.patch
        )
        self.tensor(prefix + "embeddings.position_embedding.weight", 1 + (size.side // size.patch) ** 2, width)
        self.norm(prefix + "pre_layrnorm", width)
        for i in range(size.layers):
            at = f"{prefix}encoder.layers.{i}."
            for name in ("q", "k", "v", "out"):
                self.matrix(at + f"self_attn.{name}_proj", width, width, bias=True)
            self.norm(at + "layer_norm1", width)
            self.norm(at + "layer_norm2", width)
            self.matrix(at + "mlp.fc1", 2 * width, width, bias=True)
            self.matrix(at + "mlp.fc2", width, 2 * width, bias=True)
        self.norm(prefix + "post_layernorm", width)

    def intern_vit(self, size: SimpleNamespace, prefix: str = "") -> None:
        width = size.width
        self.tensor(prefix + "embeddings.class_embedding", 1, 1, width)
        self.tensor(
            prefix + "embeddings.patch_embedding.weight", width, 3, size.patch, size.patch, scale=0.3 / size.patch
        )
        self.tensor(prefix + "embeddings.patch_embedding.bias", width)
        self.tensor(prefix + "embeddings.position_embedding", 1, 1 + (size.own_side // size.patch) ** 2, width)
        for i in range(size.layers):
            at = f"{prefix}encoder.layers.{i}."
            self.matrix(at + "attn.qkv", 3 * width, width)
            self.matrix(at + "attn.proj", width, width, bias=True)
            for name in ("attn.q_norm", "attn.k_norm", "norm1", "norm2"):
                self.norm(at + name, width, bias=False)
            self.matrix(at + "mlp.fc1", 2 * width, width, bias=True)
            self.matrix(at + "mlp.fc2", width, 2 * width, bias=True)
            self.tensor(at + "ls1", width, scale=0.2, centre=0.7)
            self.tensor(at + "ls2", width, scale=0.2, centre=0.7)


def square(image: Image.Image, mean: tuple[float, ...]) -> Image.Image:
    """The image in the middle of a square of the mean colour."""
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), tuple(int(c * 255) for c in mean))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def cropped(image: Image.Image, side: int) -> Image.Image:
    """The short side resized to `side`, and the middle cut out."""
    scale = side / min(image.size)
    wide = image.width >= image.height
    size = (int(image.width * scale), side) if wide else (side, int(image.height * scale))
    image = image.resize(size, Image.Resampling.BICUBIC)
    x, y = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((x, y, x + side, y + side))


def pixels(image: Image.Image, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[3, height, width], normalised."""
    values = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
    return (values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@dataclass
class Original:
    """A checkpoint in an original format, in memory."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    see: Callable[[Image.Image], Tensor]
    """Image -> [cell, width], what the text decoder gets for it."""
    words: list[tuple[str, float, int]] = field(default_factory=pieces.vocabulary)
    dummy_prefix: bool = True
    bos: bool = True
    added: dict[str, int] = field(default_factory=dict)
    """Tokens that were added to the vocabulary -> their ids."""
    towers: dict[str, tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]] = field(default_factory=dict)
    """Folder -> (config.json, weights, preprocessor_config.json)."""
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    around: str = "<image>"
    """The image in a prompt, with what the original puts around it."""

    def tokens(self, text: str) -> list[int]:
        """As sentencepiece with added tokens does: each piece between them by itself."""
        found: list[int] = []
        while text:
            at, token = min(((text.find(t), t) for t in self.added if t in text), default=(len(text), ""))
            found += pieces.tokenise(text[:at], self.words, self.dummy_prefix)
            found += [self.added[token]] if token else []
            text = text[at + len(token) :]
        return found

    def decode(self, image: Image.Image, text: str) -> tuple[plain.Decoded, slice]:
        """The text decoder on a prompt in which <image> stands for the image -> (result, where its cells are)."""
        before, after = text.split("<image>")
        start = ([1] if self.bos else []) + self.tokens(before)
        embed = self.weights["model.embed_tokens.weight"]
        seen = self.see(image)
        x = torch.cat([embed[start], seen, embed[self.tokens(after)]])
        return plain.llama(x, self.weights, LANGUAGE), slice(len(start), len(start) + len(seen))

    def write(self, folder: Path, shards: int = 2) -> Path:
        """The checkpoint's folder, with weights in .bin files and an index, as they were published."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        write_shards(folder, self.weights, shards)
        pieces.write(folder / "tokenizer.model", self.words, self.dummy_prefix)
        first, last = self.words[1][0], self.words[2][0]
        settings = {
            "add_bos_token": self.bos, "tokenizer_class": "LlamaTokenizer", "bos_token": first, "eos_token": last,
            "unk_token": {"content": "<unk>", "normalized": True}, **self.tokenizer_config,
        }  # fmt: skip
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        if self.added:
            (folder / "added_tokens.json").write_text(json.dumps(self.added))
        for name, (config, weights, images) in self.towers.items():
            tower = folder / name
            tower.mkdir(parents=True, exist_ok=True)
            (tower / "config.json").write_text(json.dumps(config))
            (tower / "preprocessor_config.json").write_text(json.dumps(images))
            torch.save(weights, tower / "pytorch_model.bin")
        return folder


def write_shards(folder: Path, weights: dict[str, Tensor], shards: int) -> None:
    names = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    keys = list(weights)
    size = -(-len(keys) // shards)
    places = {key: names[i // size] for i, key in enumerate(keys)}
    for name in names:
        torch.save({key: weights[key].clone() for key in keys if places[key] == name}, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


CLIP_SIZE = SimpleNamespace(width=16, layers=3, heads=2, patch=8, side=32, act=plain.quick_gelu)
CLIP_CONFIG = {
    "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
    "num_attention_heads": 2, "patch_size": 8, "image_size": 32, "hidden_act": "quick_gelu", "projection_dim": 12,
}  # fmt: skip
CLIP_IMAGES = {
    "crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 32}, "image_mean": list(CLIP_MEAN),
    "image_std": list(CLIP_STD), "do_center_crop": True, "image_processor_type": "CLIPImageProcessor",
}  # fmt: skip


def llama_config(vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "vocab_size": vocabulary,
        "hidden_size": HIDDEN, "intermediate_size": INTER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "rms_norm_eps": EPS, "rope_theta": THETA, "max_position_embeddings": 1024,
        "hidden_act": "silu", "torch_dtype": "float16", "use_cache": True, "tie_word_embeddings": False,
        "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "mm_hidden_size": 16,
        "mm_use_im_patch_token": False, "use_mm_proj": True, **more,
    }  # fmt: skip


def llava(kind: str = "mlp2x_gelu", wrapped: bool = False, pad: bool = True, act: str = "quick_gelu", seed: int = 0,
          **more: Any) -> Original:  # fmt: skip
    """LLaVA with a CLIP tower in the folder `tower` inside the checkpoint's; LLaVA v1 with `linear` and `wrapped`."""
    words = pieces.vocabulary()
    added = {"<im_patch>": len(words), "<im_start>": len(words) + 1, "<im_end>": len(words) + 2} if wrapped else {}
    maker, tower = Maker(seed), Maker(seed + 100)
    maker.llama(len(words) + len(added))
    tower.clip(CLIP_SIZE)
    tower.tensor("vision_model.embeddings.position_ids", 1, 17)
    projector = "model.mm_projector"
    if kind == "linear":
        maker.matrix(projector, HIDDEN, 16, bias=True)
    else:
        second = 3 if kind.endswith("_Norm") else 2
        maker.matrix(f"{projector}.0", HIDDEN, 16, bias=True)
        maker.matrix(f"{projector}.{second}", HIDDEN, HIDDEN, bias=True)
        if second == 3:
            maker.norm(f"{projector}.1", HIDDEN)
            maker.norm(f"{projector}.4", HIDDEN)
    size = plain.spread({**vars(CLIP_SIZE), "act": torch.nn.functional.gelu if act == "gelu" else plain.quick_gelu})

    def see(image: Image.Image) -> Tensor:
        if pad:
            image = square(image, CLIP_MEAN)
        seen = plain.clip(pixels(cropped(image, 32), CLIP_MEAN, CLIP_STD), tower.made, size)[-2][1:]
        return plain.projector(seen, maker.made, kind)

    config = llama_config(
        len(words) + len(added), mm_projector_type=kind, mm_vision_tower="./tower", mm_use_im_start_end=wrapped,
        **({"image_aspect_ratio": "pad"} if pad else {}), **more,
    )  # fmt: skip
    towers = {"tower": ({**CLIP_CONFIG, "hidden_act": act}, tower.made, CLIP_IMAGES)}
    around = "<im_start><image><im_end>" if wrapped else "<image>"
    return Original(config, maker.made, see, words, added=added, towers=towers, around=around)


def yi_vl() -> Original:
    """Yi-VL: norms in the projector, a tower of its own, no first token, no space before a text."""
    made = llava("mlp2x_gelu_Norm", act="gelu")
    made.words, made.dummy_prefix, made.bos = pieces.vocabulary("<|startoftext|>", "<|endoftext|>"), False, False
    made.config["mm_vision_tower"] = "./vit/clip-vit-H"
    made.towers = {"vit/clip-vit-H": made.towers["tower"]}
    return made


INTERN_SIZE = SimpleNamespace(width=16, layers=5, heads=2, patch=84, own_side=168)


def internvl_chat() -> Original:
    """InternVL-Chat-ViT-6B-Vicuna-7B's form: an InternViT for 168 pixels sees 336, read four layers from its end."""
    made = llava(mm_vision_select_layer=-4)
    tower = Maker(7)
    tower.intern_vit(INTERN_SIZE)

    def see(image: Image.Image) -> Tensor:
        image = cropped(square(image, IMAGENET_MEAN), 336)
        seen = plain.intern_vit(pixels(image, IMAGENET_MEAN, IMAGENET_STD), tower.made, INTERN_SIZE)[-4][1:]
        return plain.projector(seen, made.weights, "mlp2x_gelu")

    config = {
        "model_type": "intern_vit_6b", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 5,
        "num_attention_heads": 2, "patch_size": 84, "image_size": 168, "qkv_bias": False, "qk_normalization": True,
        "layer_norm_eps": 1e-6, "hidden_act": "gelu", "initializer_factor": 0.1,
    }  # fmt: skip
    made.towers, made.see = {"tower": (config, tower.made, {})}, see
    return made


WIDTHS, DEPTHS, LARGE = (4, 6, 8), (1, 2, 1), 128
GEMMA_HEAD = 12


def convnext_weights(maker: Maker, prefix: str = "visual.trunk.") -> None:
    """timm's names. Three stages for four, of a small image."""

    def conv(name: str, out: int, inputs: int, side: int) -> None:
        maker.tensor(f"{name}.weight", out, inputs, side, side, scale=(inputs * side * side) ** -0.5)
        maker.tensor(f"{name}.bias", out, scale=0.3)

    conv(prefix + "stem.0", WIDTHS[0], 3, 4)
    maker.norm(prefix + "stem.1", WIDTHS[0])
    for i, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        at = f"{prefix}stages.{i}."
        if i > 0:
            maker.norm(at + "downsample.0", WIDTHS[i - 1])
            conv(at + "downsample.1", width, WIDTHS[i - 1], 2)
        for j in range(depth):
            block = f"{at}blocks.{j}."
            conv(block + "conv_dw", width, 1, 7)
            maker.norm(block + "norm", width)
            maker.matrix(block + "mlp.fc1", 4 * width, width, bias=True)
            maker.matrix(block + "mlp.fc2", width, 4 * width, bias=True)
            maker.tensor(block + "gamma", width, scale=0.2, centre=0.7)


class Gemma(Original):
    """A checkpoint with a Gemma and its tokenizer.json."""

    def decode(self, image: Image.Image, text: str) -> tuple[plain.Decoded, slice]:
        before, after = text.split("<image>")
        start, embed = tokenizer("<bos>")(before)["input_ids"], self.weights["model.embed_tokens.weight"]
        seen = self.see(image)
        end = tokenizer()(after, add_special_tokens=False)["input_ids"]
        size = SimpleNamespace(layers=LAYERS, heads=HEADS, kv_heads=1, theta=THETA, eps=EPS)
        x = torch.cat([embed[start], seen, embed[end]])
        return plain.gemma(x, self.weights, size, torch.nn.functional.gelu), slice(len(start), len(start) + len(seen))

    def write(self, folder: Path, shards: int = 2) -> Path:
        super().write(folder, shards)
        (folder / "tokenizer.model").unlink()
        tokenizer("<bos>").save_pretrained(folder)
        (folder / "trunk" / "pytorch_model.bin").rename(folder / "trunk" / "open_clip_pytorch_model.bin")
        return folder


def mini_gemini(own_towers: bool = False) -> Gemma:
    """MGM-2B's form: a Gemma with one key head and heads wider than its states, a CLIP, a ConvNeXt of OpenCLIP."""
    vocabulary = len(tokenizer())
    maker, clip, trunk = Maker(), Maker(100), Maker(200)
    maker.llama(vocabulary)
    for i in range(LAYERS):
        at = f"model.layers.{i}.self_attn."
        maker.matrix(at + "q_proj", HEADS * GEMMA_HEAD, HIDDEN, gain=2)
        maker.matrix(at + "k_proj", GEMMA_HEAD, HIDDEN, gain=2)
        maker.matrix(at + "v_proj", GEMMA_HEAD, HIDDEN)
        maker.matrix(at + "o_proj", HIDDEN, HEADS * GEMMA_HEAD)
    for key in maker.made:
        if key.endswith("norm.weight"):
            maker.made[key] = maker.made[key] - 1
    maker.made["model.embed_tokens.weight"] *= HIDDEN**-0.5
    maker.made["lm_head.weight"] = maker.made["model.embed_tokens.weight"].clone()
    detail = sum(WIDTHS)
    for name, inputs in (("query", 16), ("aux", detail), ("val", detail)):
        maker.norm(f"model.vlm_uni_{name}_projector.0", inputs)
        maker.matrix(f"model.vlm_uni_{name}_projector.1", 16, inputs, bias=True)
    maker.matrix("model.mm_projector.0", HIDDEN, 16, bias=True)
    maker.matrix("model.mm_projector.2", HIDDEN, HIDDEN, bias=True)
    for part in ("weight", "bias"):
        maker.made[f"model.mm_projector.2.{part}"] *= HIDDEN**-0.5
    clip.clip(CLIP_SIZE)
    convnext_weights(trunk)
    trunk.tensor("visual.trunk.head.proj.weight", 3, 3)
    trunk.tensor("transformer.resblocks.0.ln_1.weight", 3)

    def see(image: Image.Image) -> Tensor:
        large = pixels(cropped(square(image, CLIP_MEAN), LARGE), CLIP_MEAN, CLIP_STD)
        small = torch.nn.functional.interpolate(large[None], size=(32, 32), mode="bilinear", align_corners=False)[0]
        tokens = plain.clip(small, clip.made, CLIP_SIZE)[-2][1:]
        stages = plain.convnext(large, trunk.made, DEPTHS)
        size = stages[0].shape[1:]
        details = torch.cat(
            [
                torch.nn.functional.interpolate(s[None], size=size, mode="bilinear", align_corners=False)[0]
                for s in stages
            ]
        )
        return plain.projector(tokens + plain.mined(tokens, details, maker.made), maker.made, "mlp2x_gelu")

    config = llama_config(
        vocabulary, mm_projector_type="mlp2x_gelu", mm_vision_tower="./clip", mm_vision_tower_aux="./trunk",
        mm_use_im_start_end=False, image_aspect_ratio="pad", image_size_aux=LARGE, image_grid=1,
    )  # fmt: skip
    config |= {"architectures": ["MGMGemmaForCausalLM"], "model_type": "mgm_gemma", "head_dim": GEMMA_HEAD,
               "num_key_value_heads": 1, "hidden_act": "gelu", "tie_word_embeddings": True}  # fmt: skip
    towers = {"clip": (CLIP_CONFIG, clip.made, CLIP_IMAGES), "trunk": ({}, trunk.made, {})}
    made = dict(maker.made)
    if own_towers:
        made |= {f"model.vision_tower.vision_tower.{key}": tensor for key, tensor in clip.made.items()}
        for key, tensor in trunk.made.items():
            if "trunk.st" in key:
                made[key.replace("visual.trunk.st", "model.vision_tower_aux.vision_st")] = tensor
        config["optimize_vision_tower_aux"] = True
        other = Maker(300)
        other.clip(CLIP_SIZE)
        convnext_weights(other)
        towers = {"clip": (CLIP_CONFIG, other.made, CLIP_IMAGES), "trunk": ({}, other.made, {})}
    return Gemma(config, made, see, towers=towers)
