"""Scaled-down checkpoints below the real files of hub repositories, which lie beside the project and not in it.

Vocabulary, image and patch sizes, token ids and every other setting stay; layers and hidden sizes shrink, and weights
are random. The tensors have the real index's names.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from family_parts import without_video
from safetensors.torch import load_file, save_file

from locheads.models.config import ModelConfig
from locheads.models.processors import load_processor

HUB = Path(__file__).parents[4] / "shared" / "hub_files"
LAYERS, HEADS = 2, 4
TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": 2, "head_dim": 16}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN_VISION = {"hidden_size": 32, "intermediate_size": 48, "depth": 2, "num_heads": 2, "out_hidden_size": 64,
               "fullatt_block_indexes": [1]}  # fmt: skip
BORROWED = {"internvl3_8b_composed": ("qwen2_5_vl_7b", ("vocab.json", "merges.txt"))}
"""Folder -> whose files it is composed with."""
OF_FAMILY = {"llava_1_5_7b_hf": ("llava", "real"), "llava_next_mistral": ("llava_next", "real but for config.json"),
             "qwen2_5_vl_7b": ("qwen2_5_vl", "real"), "smolvlm_256m": ("idefics3", "real"),
             "internvl3_8b_composed": ("internvl", "composed")}  # fmt: skip
"""Folder -> the family's case in families.py, and what its files are."""


def scaled(name: str, folder: Path, without: tuple[str, ...] = ()) -> Path:
    """Makes the checkpoint; of the real files all are there but those named. Skips where there are none."""
    if not HUB.is_dir():
        pytest.skip(f"{HUB} is not there: the real files of hub repositories are needed")
    folder.mkdir(parents=True)
    other, borrowed = BORROWED.get(name, (name, ()))
    files = [*(HUB / name).iterdir(), *(HUB / other / file for file in borrowed)]
    settings = _settings(name)
    _weights(name, settings, folder)
    for file in files:
        if file.name not in {*without, "config.json", "model.safetensors.index.json"}:
            (folder / file.name).symlink_to(file)
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def processor(folder: Path) -> Any:
    """The checkpoint's own; put together by hand where a part that no test asks for needs torchvision."""
    config = tf.AutoConfig.from_pretrained(folder)
    if tf.utils.is_torchvision_available() or config.model_type not in BY_HAND:
        return load_processor(str(folder), ModelConfig(id=str(folder)), config)
    return BY_HAND[config.model_type](folder)


def _by_hand(images: str, kind: str) -> Callable[[Path], Any]:
    def build(folder: Path) -> Any:
        module, name = images.rsplit(".", 1)
        pixels = getattr(__import__(f"transformers.models.{module}", fromlist=[name]), name).from_pretrained(folder)
        template = (
            json.loads((folder / "chat_template.json").read_text())["chat_template"]
            if (folder / "chat_template.json").exists()
            else (folder / "chat_template.jinja").read_text()
        )
        words = tf.AutoTokenizer.from_pretrained(folder)
        return without_video(getattr(tf, kind), pixels, words, chat_template=template)

    return build


BY_HAND = {
    "qwen2_5_vl": _by_hand("qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil", "Qwen2_5_VLProcessor"),
    "internvl": _by_hand("got_ocr2.image_processing_pil_got_ocr2.GotOcr2ImageProcessorPil", "InternVLProcessor"),
}


def _settings(name: str) -> dict[str, Any]:
    settings = json.loads((HUB / name / "config.json").read_text())
    if "text_config" in settings:
        settings["text_config"].update(TEXT)
    else:
        settings.update(TEXT)
        settings["rope_scaling"]["mrope_section"] = [2, 3, 3]  # half of head_dim
    settings["vision_config"].update(QWEN_VISION if name == "qwen2_5_vl_7b" else VISION)
    return settings


def _weights(name: str, settings: dict[str, Any], folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    model = tf.AutoModelForImageTextToText.from_config(tf.AutoConfig.from_pretrained(folder))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:  # of one size in all families, so that rows are neither flat nor all on one token
                weight.normal_(std=weight[0].numel() ** -0.5)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    file = folder / "model.safetensors"
    weights = {_real(key, name): tensor for key, tensor in load_file(file).items()}
    index = HUB / name / "model.safetensors.index.json"
    if index.exists():
        assert weights.keys() <= json.loads(index.read_text())["weight_map"].keys()
    save_file(weights, file, {"format": "pt"})


def _real(key: str, name: str) -> str:
    """What a tensor is called in the real files: transformers has dropped a level of LLaVA's names since."""
    return key.replace("vision_tower.", "vision_tower.vision_model.", 1) if name.startswith("llava") else key
