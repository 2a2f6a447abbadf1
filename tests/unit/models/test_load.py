"""Checkpoints that are absent, of another kind or damaged: one sentence each, which names the path."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_llava
import torch
from safetensors.torch import load_file, save_file

from locheads.config import DType, EngineConfig, ModelConfig
from locheads.errors import ConfigError, ModelError
from locheads.models.capture import NAME
from locheads.models.load import identify, load_lvlm, pick_device

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
    ("model_type", "words"), [("nonesuch", "nonesuch"), ("bert", "'bert' model, which has no adapter")]
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
