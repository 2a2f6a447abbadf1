"""Folders that look like a checkpoint and are none, or not all of one: the sentence that each gets, before it loads."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_llava
import torch
from families import FAMILY_BUILDERS
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from locheads.errors import ModelError
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.convert.checkpoint import INDEXES
from locheads.models.engine import EngineConfig
from locheads.models.findings import Finding, Outcome
from locheads.models.folder_checks import WEIGHTS, check_folder
from locheads.models.folder_format import FORMAT
from locheads.models.load import load_lvlm

CHAT = PromptConfig(template="{expression}", chat=True)
WEIGHT = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4999\n"

Make = Callable[[Path], None]


def settings(**changes: Any) -> Make:
    """Changes config.json; None takes a setting away."""

    def make(folder: Path, name: str = "config.json") -> None:
        content = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return make


def only(**files: Any) -> Make:
    """Nothing but these files, their names with _ for the dot."""

    def make(folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(json.dumps(content))

    return make


def beside(name: str, content: Any) -> Make:
    def make(folder: Path) -> None:
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

    return make


def without(*names: str) -> Make:
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return make


def tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Make:
    def make(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHT)), folder / WEIGHT, {"format": "pt"})

    return make


def renamed(old: str, new: str) -> Make:
    """Of every tensor the first `old` in its name."""
    return tensors(lambda weights: {key.replace(old, new, 1): value for key, value in weights.items()})


def more(name: str) -> Make:
    return tensors(lambda weights: weights | {name: torch.zeros(2, 2)})


def sharded(index: bool = True, keep: int = 2, promised: str | None = None) -> Make:
    """Two shards, of which `keep` are there."""

    def make(folder: Path) -> None:
        weights = load_file(folder / WEIGHT)
        names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
        places = {key: names[i % 2] for i, key in enumerate(sorted(weights))}
        for name in names[:keep]:
            save_file({key: weights[key] for key in weights if places[key] == name}, folder / name, {"format": "pt"})
        (folder / WEIGHT).unlink()
        if promised:
            places[promised] = names[0]
        if index:
            (folder / INDEXES[0]).write_text(json.dumps({"metadata": {}, "weight_map": places}))

    return make


def pickled_shards(folder: Path) -> None:
    weights = load_file(folder / WEIGHT)
    for i, part in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), start=1):
        torch.save({key: weights[key] for key in part}, folder / f"pytorch_model-0000{i}-of-00002.bin")
    (folder / WEIGHT).unlink()


def truncated(folder: Path) -> None:
    (folder / WEIGHT).write_bytes((folder / WEIGHT).read_bytes()[:-1000])


def of_mlx(folder: Path) -> None:
    save_file(load_file(folder / WEIGHT), folder / WEIGHT, {"format": "mlx"})


def gguf_beside(folder: Path) -> None:
    (folder / WEIGHT).rename(folder / "llava-q4.gguf")


def tokens(change: Callable[[dict[str, Any]], None]) -> Make:
    def make(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        change(content)
        (folder / "tokenizer.json").write_text(json.dumps(content))

    return make


def forget_the_image(content: dict[str, Any]) -> None:
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] != tiny_llava.IMAGE_TOKEN]
    vocabulary = content["model"]["vocab"]
    (word,) = [word for word, i in vocabulary.items() if i == tiny_llava.IMAGE_TOKEN]
    del vocabulary[word]


def add_tokens(content: dict[str, Any]) -> None:
    kind = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"] += [{"id": 120 + i, "content": f"<more{i}>", **kind} for i in range(20)]


def inside(folder: Path) -> None:
    (folder / "checkpoint-500").mkdir()
    for file in list(folder.iterdir()):
        if file.is_file():
            file.rename(folder / "checkpoint-500" / file.name)


def delta_by_norm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value * 1e-3 if key.endswith("model.norm.weight") else value for key, value in weights.items()}


LORA = {"peft_type": "LORA", "base_model_name_or_path": "llava-hf/llava-1.5-7b-hf"}
ORIGINAL = {"model_type": "llava", "mm_vision_tower": "openai/clip", "mm_projector_type": "mlp2x_gelu"}
REMOTE = {"AutoModel": "modeling_own.OwnModel"}

FOLDERS: dict[str, tuple[Make, str, str]] = {
    "a missing shard": (sharded(keep=1), "weight files", "lacks 1 of the 2 weight files that its index names"),
    "a truncated file": (truncated, "weight files", "model.safetensors is damaged or incomplete"),
    "shards without an index": (sharded(index=False), "weight files", "no index that says what is where"),
    "an index of another file": (sharded(promised="x.weight"), "weight files", "that the index promises, such as x"),
    "no weights": (without(WEIGHT), "weight files", "holds no weights"),
    "a pointer for weights": (beside(WEIGHT, POINTER), "files", "1 git-lfs pointers in place of files, such as model"),
    "a pointer for a tokenizer": (beside("tokenizer.json", POINTER), "files", "run git lfs"),
    "an adapter alone": (only(adapter_config__json=LORA), "format", "whose base is llava-hf/llava-1.5-7b-hf"),
    "an adapter beside a model": (beside("adapter_config.json", LORA), "format", "or take adapter_config.json away"),
    "keys of peft": (renamed("", "base_model.model."), "tensor names", "save what its merge_and_unload() returns"),
    "keys of a data-parallel run": (renamed("", "module."), "tensor names", "save its .module"),
    "layers of LoRA": (more("model.layers.0.q_proj.lora_A.weight"), "tensor names", "holds layers of LoRA"),
    "GPTQ": (settings(quantization_config={"quant_method": "gptq"}), "precision", "needs the package gptqmodel"),
    "AWQ": (settings(quantization_config={"quant_method": "awq"}), "precision", "is quantised (awq)"),
    "FP8": (settings(quantization_config={"quant_method": "fp8"}), "precision", "is quantised (fp8)"),
    "bitsandbytes": (settings(quantization_config={"quant_method": "bitsandbytes"}), "precision", "bitsandbytes"),
    "MLX": (settings(quantization={"group_size": 64, "bits": 4}), "precision", "is quantised for MLX"),
    "quantised in silence": (more("model.layers.0.q_proj.qweight"), "tensor names", "config.json does not say how"),
    "in bytes in silence": (
        tensors(lambda weights: {key: value.to(torch.int8) for key, value in weights.items()}), "tensor names",
        "config.json does not say how",
    ),
    "shards of pickle without an index": (
        pickled_shards, "weight files", "download pytorch_model.bin.index.json, too, or",
    ),
    "MLX, not quantised": (of_mlx, "weight files", "holds weights of MLX"),
    "GGUF": (only(**{"llava-q4__gguf": 0}), "format", "holds llava-q4.gguf, quantised for llama.cpp"),
    "GGUF with settings": (gguf_beside, "weight files", "no weights for transformers, and holds llava-q4.gguf"),
    "its authors' files": (only(params__json={}, **{"consolidated__00__pth": 0}), "format", "authors' own format"),
    "original LLaVA": (
        settings(architectures=["LlavaLlamaForCausalLM"], **ORIGINAL), "format", "python -m locheads.models.convert",
    ),
    "original LLaVA with Mistral": (
        settings(architectures=["LlavaMistralForCausalLM"], **ORIGINAL), "format", "not converted (LlavaMistral",
    ),
    "original keys": (
        renamed("multi_modal_projector", "model.mm_projector"), "tensor names", "as in LLaVA's original format",
    ),
    "delta weights by name": (settings(_name_or_path="org/llava-7b-delta-v1"), "delta weights", "holds delta weights"),
    "delta weights by size": (tensors(delta_by_norm), "delta weights", "the difference to a base model"),
    "a text model": (only(config__json={"model_type": "qwen2"}), "family", "'qwen2' model, which reads text alone"),
    "CLIP": (only(config__json={"model_type": "clip"}), "family", "'clip' model, which answers no text about an image"),
    "a Q-Former": (only(config__json={"model_type": "blip-2"}), "family", "turns the image into a few learned queries"),
    "remote code": (
        only(config__json={"model_type": "own", "auto_map": REMOTE}), "family", "code lies beside its weights",
    ),
    "InternVL's own form": (only(config__json={"model_type": "internvl_chat", "auto_map": REMOTE}), "family", "-hf"),
    "no model_type": (settings(model_type=None), "format", "names no model_type"),
    "a folder of checkpoints": (inside, "format", "is no checkpoint, but holds some: use model.id="),
    "fewer layers": (
        tensors(lambda weights: {key: value for key, value in weights.items() if "layers.2." not in key}),
        "tensor names", "lacks the weights of 1 of its 3 decoder layers, such as layer 2",
    ),
    "a smaller vocabulary": (
        lambda folder: settings(text_config=json.loads((folder / "config.json").read_text())["text_config"]
                                | {"vocab_size": 100})(folder),
        "vocabulary", "hold 124 token embeddings, and config.json says vocab_size 100",
    ),
    "an image token beyond": (settings(image_token_index=500, image_token_id=500), "vocabulary", "has the id 500"),
    "no tokenizer": (without("tokenizer.json"), "tokenizer files", "has no tokenizer"),
    "the language model's tokenizer": (tokens(forget_the_image), "tokenizer", "none with the image's id 4"),
    "tokens added later": (tokens(add_tokens), "tokenizer", "tokens were added after the model was saved"),
    "no processor": (without("processor_config.json", "preprocessor_config.json"), "processor", "image processor"),
    "a broken template": (beside("chat_template.jinja", "{% for %}"), "chat template", "has none that works"),
}  # fmt: skip
"""What is the matter -> (how such a folder is made of a whole one, the check that says so, part of its sentence)."""


def failures(folder: Path) -> list[Finding]:
    return [one for one in check_folder(ModelConfig(id=str(folder)), CHAT) if one.outcome == Outcome.failed]


@pytest.fixture
def whole(checkpoint: Callable[..., Path]) -> Path:
    folder = checkpoint()
    part = "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    (folder / "chat_template.jinja").write_text(f"{{% for part in messages[0].content %}}{part}{{% endfor %}}")
    return folder


def test_a_whole_folder_passes_every_check(whole: Path) -> None:
    found = check_folder(ModelConfig(id=str(whole)), CHAT)
    assert {one.outcome for one in found} == {Outcome.passed}, found
    assert {*FORMAT, *WEIGHTS, "tokenizer", "processor", "memory", "chat template"} == {one.name for one in found}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_misleading_folder_is_told_what_it_is(name: str, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, check, says = FOLDERS[name]
    make(whole)
    known = importlib.util.find_spec
    packers = {"gptqmodel", "accelerate", "bitsandbytes"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name in packers else known(name, *of))
    found = failures(whole)[0]
    sentence = f"{found.text}: {found.advice}"
    assert (found.name, says in sentence) == (check, True), sentence
    assert str(whole) in sentence or check == "chat template"
    assert sentence.endswith(".") and "\n" not in sentence
    if check in {*FORMAT, *WEIGHTS}:  # a run ends with the same words
        with pytest.raises(ModelError) as refused:
            load_lvlm(ModelConfig(id=str(whole)), EngineConfig(device="cpu"))
        assert str(refused.value) == sentence


@pytest.mark.parametrize(("kind", "fine"), [("PreTrainedTokenizerFast", True), ("LlamaTokenizer", False)])
def test_a_class_that_changes_the_tokens_is_found_out(kind: str, fine: bool, tmp_path: Path) -> None:
    """Of a tokenizer that puts a space before each part of a text: transformers' class puts one before the first."""
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", "<image>"]
    how = trainers.BpeTrainer(special_tokens=special, show_progress=False)
    words.train_from_iterator(["hello it's 12 left. ▁"], how)
    model, _ = FAMILY_BUILDERS["llava_onevision"]()
    model.config.image_token_id = 3
    model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>").save_pretrained(tmp_path)
    settings(tokenizer_class=kind)(tmp_path, "tokenizer_config.json")
    (found,) = [one for one in check_folder(ModelConfig(id=str(tmp_path))) if one.name == "tokenizer"]
    assert (found.outcome == Outcome.passed) == fine, found
    assert fine or "PreTrainedTokenizerFast as tokenizer_class" in found.advice


def test_weights_of_pickle_are_looked_into_as_well(whole: Path) -> None:
    weights = load_file(whole / WEIGHT)
    torch.save(weights, whole / "pytorch_model.bin")
    (whole / WEIGHT).unlink()
    assert failures(whole) == []
    load_lvlm(ModelConfig(id=str(whole)), EngineConfig(device="cpu"))
    (whole / "pytorch_model.bin").write_bytes((whole / "pytorch_model.bin").read_bytes()[:-1000])
    assert [one.name for one in failures(whole)] == ["weight files"]


def test_weights_of_another_shape_are_named(whole: Path) -> None:
    shorten = tensors(lambda weights: weights | {key: weights[key][:-1] for key in weights if "linear_1.bias" in key})
    shorten(whole)
    with pytest.raises(ModelError, match=r"1 weights of another shape .*linear_1\.bias \(\[31\], not \[32\]\)"):
        load_lvlm(ModelConfig(id=str(whole)), EngineConfig(device="cpu"))


def test_a_second_copy_of_the_weights_does_no_harm(whole: Path) -> None:
    save_file({"layers.0.attention.wq.weight": torch.zeros(2, 2)}, whole / "consolidated.safetensors")
    assert failures(whole) == []


def test_what_is_not_downloaded_is_not_applicable() -> None:
    (found,) = check_folder(ModelConfig(id="nobody/no-such-model-here"))
    assert found.outcome == Outcome.not_applicable and "stage=fetch" in found.text


def test_gigabytes_by_type_follow_from_the_tensors(whole: Path) -> None:
    numbers = sum(tensor.numel() for tensor in load_file(whole / WEIGHT).values())
    huge = tensors(lambda weights: weights | {"more.weight": torch.zeros(25_000_000)})
    huge(whole)
    (found,) = [one for one in check_folder(ModelConfig(id=str(whole))) if one.name == "memory"]
    assert numbers < 1e6  # so the tensor that was added is all that shows: 25 million numbers
    assert found.text.startswith("0.1 GB on disk; in memory float32 0.1 GB, bfloat16 0.1 GB, float16 0.1 GB, of ")
