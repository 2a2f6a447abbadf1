"""Checkpoints that are absent, of another kind or damaged: one sentence each, which names the path."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_llava
import torch
from huggingface_hub import constants as hub
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from locheads.errors import ConfigError, ModelError
from locheads.models import load, processors
from locheads.models.capture import NAME
from locheads.models.config import DType, ModelConfig
from locheads.models.engine import EngineConfig, Quantization, RestAttention
from locheads.models.identity import identify
from locheads.models.load import keep_layers, load_lvlm
from locheads.models.placement import check_placement, pick_device, placement
from locheads.store import digest

CPU = EngineConfig(device="cpu")


def message(folder: Path | str, action: Callable = load_lvlm) -> str:
    arguments = (ModelConfig(id=str(folder)), CPU) if action is load_lvlm else (ModelConfig(id=str(folder)),)
    with pytest.raises(ModelError) as caught:
        action(*arguments)
    text = str(caught.value)
    assert str(folder) in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_complete_checkpoint_loads_with_its_capture_and_adapter(saved: Path) -> None:
    lvlm = load_lvlm(ModelConfig(id=str(saved)), CPU)
    assert lvlm.model.config.text_config._attn_implementation == NAME
    assert not lvlm.model.training
    assert (lvlm.device, lvlm.model.dtype) == (torch.device("cpu"), torch.float32)
    original = tiny_llava.build().state_dict()
    for name, weight in lvlm.model.state_dict().items():
        torch.testing.assert_close(weight, original[name], rtol=0, atol=0)


def test_identify_reads_the_shape_without_the_weights(checkpoint: Callable[..., Path]) -> None:
    found = identify(ModelConfig(id=str(checkpoint("model.safetensors"))))
    assert (found.model_type, found.layers, found.heads) == ("llava", tiny_llava.LAYERS, tiny_llava.HEADS)


def test_the_pocket_is_found_by_name() -> None:
    found = identify(ModelConfig())
    assert found.model_type == "llava"
    assert Path(found.source).name == "weights"


def test_other_weights_are_another_identity(saved: Path, checkpoint: Callable[..., Path]) -> None:
    copy = checkpoint()
    assert identify(ModelConfig(id=str(copy))).weights == identify(ModelConfig(id=str(saved))).weights
    weights = load_file(copy / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1e-3}, copy / "model.safetensors", {"format": "pt"})
    assert identify(ModelConfig(id=str(copy))).weights != identify(ModelConfig(id=str(saved))).weights


def test_the_image_processor_is_known_before_the_model_loads(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(id=str(checkpoint()))
    images = load_lvlm(config, CPU).adapter.processor.image_processor
    assert identify(config).image_processor == f"{type(images).__name__} ({images.backend})"

    def fail(*_: object, **__: object) -> None:
        raise OSError("no preprocessor_config.json")

    monkeypatch.setattr(processors.AutoImageProcessor, "from_pretrained", fail)
    assert identify(config).image_processor is None  # an error only for who loads the model


@pytest.mark.parametrize("action", [identify, load_lvlm])
def test_a_folder_that_is_not_there(tmp_path: Path, action: Callable) -> None:
    message(tmp_path / "absent", action)


@pytest.mark.parametrize("action", [identify, load_lvlm])
def test_a_hub_id_that_is_not_downloaded(action: Callable) -> None:
    message("nobody/no-such-model-here", action)


@pytest.mark.parametrize("action", [identify, load_lvlm])
def test_a_folder_without_a_checkpoint(tmp_path: Path, action: Callable) -> None:
    (tmp_path / "notes.txt").write_text("nothing to load")
    message(tmp_path, action)


@pytest.mark.parametrize("content", ["{", "[]", "", '"llava"', "{}"])
def test_a_config_that_is_no_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    message(tmp_path, identify)


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("nonesuch", "nonesuch"),
        ("bert", "'bert' model, which reads text alone"),
        ("video_llava", "'video_llava' model, which has no adapter yet"),
    ],
)
def test_another_kind_of_model(tmp_path: Path, model_type: str, words: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert words in message(tmp_path, identify)


@pytest.mark.parametrize("keep", [0, 5, 4000])
def test_truncated_weights(checkpoint: Callable[..., Path], keep: int) -> None:
    file = checkpoint() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    message(file.parent)


def test_a_weight_that_is_missing_is_named(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "layers.1.self_attn.q_proj" in name)
    del weights[gone]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    text = message(folder)
    assert "lacks 1 weights" in text
    assert "layers.1.self_attn.q_proj.weight" in text


def test_a_weight_of_another_shape(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layers.1.mlp.up_proj" in name)
    save_file(weights | {name: weights[name][:5].clone()}, folder / "model.safetensors", {"format": "pt"})
    message(folder)


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "processor_config.json"])
def test_a_file_that_is_missing(checkpoint: Callable[..., Path], missing: str) -> None:
    message(checkpoint(missing, "tokenizer_config.json" if "token" in missing else missing))


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_without_a_cuda_device(monkeypatch: pytest.MonkeyPatch, saved: Path, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"engine.device={name} .* no CUDA device"):
        load_lvlm(ModelConfig(id=str(saved)), replace(CPU, device=name))
    assert pick_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_a_device_that_torch_does_not_know(name: str) -> None:
    with pytest.raises(ConfigError, match="is no device"):
        pick_device(name)


@pytest.mark.parametrize("name", ["meta", "mps", "xpu:0"])
def test_a_device_that_is_neither_cpu_nor_cuda_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"engine.device={name} is not supported"):
        pick_device(name)


def test_a_cuda_device_beyond_those_that_are_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(name).index for name in ("cuda", "cuda:0", "cuda:1")] == [None, 0, 1]
    with pytest.raises(ConfigError, match=r"engine\.device=cuda:2 is beyond the 2 CUDA devices"):
        pick_device("cuda:2")


def test_float16_on_a_cpu_is_refused(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.dtype=float16"):
        load_lvlm(ModelConfig(id=str(saved), dtype=DType.float16), CPU)


@pytest.mark.parametrize("layers", [1, 2])
def test_layers_beyond_those_needed_are_not_loaded_and_the_rest_is_the_same(saved: Path, layers: int, capfd) -> None:
    lvlm = load_lvlm(ModelConfig(id=str(saved)), CPU, layers)
    assert len(lvlm.model.base_model.language_model.layers) == layers
    whole = tiny_llava.build().state_dict()
    state = lvlm.model.state_dict()
    assert len(state) < len(whole)
    for name, weight in state.items():
        torch.testing.assert_close(weight, whole[name], rtol=0, atol=0)
    output = capfd.readouterr()
    assert "unexpected" not in (output.out + output.err).lower()  # the weights left out must not alarm anybody


def test_a_missing_weight_is_refused_also_where_layers_are_left_out(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "layers.0.self_attn.q_proj" in name)
    del weights[gone]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights of its model, such as .*layers\.0\.self_attn\.q_proj"):
        load_lvlm(ModelConfig(id=str(folder)), CPU, 2)


def test_more_layers_than_there_are_is_all_of_them(saved: Path) -> None:
    lvlm = load_lvlm(ModelConfig(id=str(saved)), CPU, 99)
    assert len(lvlm.model.base_model.language_model.layers) == tiny_llava.LAYERS


def test_layer_types_are_cut_with_the_layers() -> None:
    config = AutoConfig.for_model("gemma3", text_config={"num_hidden_layers": 8, "sliding_window": 16})
    assert len(config.text_config.layer_types) == 8
    keep_layers(config, 3)
    assert config.text_config.num_hidden_layers == 3
    assert len(config.text_config.layer_types) == 3


@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_id_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", "/the/cache")

    def absent(*_: object, **__: object) -> None:
        raise OSError("nobody/nothing is not a local folder and is not a valid model identifier.")

    monkeypatch.setattr(processors, "AutoConfig", SimpleNamespace(from_pretrained=absent))
    text = message("nobody/nothing", identify)
    assert "among the downloads in /the/cache" in text
    assert ("only, because HF_HUB_OFFLINE is set" in text) == offline
    assert ("and at https://huggingface.co" in text) == (not offline)


def test_a_folder_s_weights_are_hashed_once_with_a_cache(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hashed = checkpoint(), []
    monkeypatch.setattr(digest, "SETTLED_NS", -1)  # files just written count as settled
    real = digest.file_digest
    monkeypatch.setattr(digest, "file_digest", lambda path: (hashed.append(path.name), real(path))[1])
    first = identify(ModelConfig(id=str(folder)), tmp_path / "cache")
    assert "model.safetensors" in hashed
    hashed.clear()
    assert identify(ModelConfig(id=str(folder)), tmp_path / "cache") == first
    assert hashed == []
    assert identify(ModelConfig(id=str(folder))) == first


def test_memory_that_runs_out_while_loading_is_one_sentence(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(load, "AutoModelForImageTextToText", SimpleNamespace(from_pretrained=full))
    assert "does not fit into the memory of its device" in message(saved)


def test_a_processor_that_lacks_a_package_is_one_sentence(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ImportError("\nPixtralProcessor requires the Torchvision library but it was not found.\nInstall it.")

    monkeypatch.setattr(processors.AutoProcessor, "from_pretrained", fail)
    text = message(saved)
    assert "Torchvision library" in text and "make install EXTRAS=families" in text


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantization_without_cuda_or_its_package_is_one_sentence(bits, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = replace(CPU, quantization=Quantization[bits])
    with pytest.raises(ConfigError, match=rf"engine\.quantization={bits} needs a CUDA device, not cpu"):
        check_placement(ModelConfig(), engine)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    installed(monkeypatch, "accelerate")
    with pytest.raises(ConfigError, match=r"needs the package bitsandbytes: run make install EXTRAS=gpu"):
        check_placement(ModelConfig(), replace(engine, device="cuda"))
    installed(monkeypatch, "accelerate", "bitsandbytes")
    device, options = placement(ModelConfig(dtype=DType.bfloat16), replace(engine, device="cuda"))
    assert options["device_map"] == {"": device}
    assert options["quantization_config"].load_in_4bit == (bits == "4bit")


def test_flash_attention_needs_its_package_a_gpu_and_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = replace(CPU, attention=RestAttention.flash)
    installed(monkeypatch)
    with pytest.raises(ConfigError, match="needs the package flash_attn, built for this torch"):
        check_placement(ModelConfig(dtype=DType.bfloat16), engine)
    installed(monkeypatch, "flash_attn")
    with pytest.raises(ConfigError, match=r"needs a GPU and model\.dtype=bfloat16"):
        check_placement(ModelConfig(dtype=DType.bfloat16), engine)


def test_a_device_map_needs_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(ConfigError, match=r"engine\.device_map=auto needs the package accelerate"):
        check_placement(ModelConfig(), replace(CPU, device_map="auto"))


@pytest.mark.parametrize(("dtype", "warned"), [(DType.float32, False), (DType.bfloat16, True)])
def test_a_precision_that_makes_rows_inexact_is_warned_of(dtype: DType, warned: bool, saved: Path, caplog) -> None:
    load_lvlm(ModelConfig(id=str(saved), dtype=dtype), CPU)
    assert ("attention rows differ from float32" in caplog.text) == warned


def installed(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Of the optional packages exactly these are there."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in packages else None)
