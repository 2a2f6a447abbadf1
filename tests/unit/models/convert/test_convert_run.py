"""A conversion as a whole: what it writes, what it refuses, and how much it holds in memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import written
from compared import EXPRESSIONS, Converted, check_equal, scene
from safetensors.torch import load_file, save_file

from locheads.models.adapters import ON_THE_HUB
from locheads.models.config import DType, ModelConfig
from locheads.models.convert import checkpoint, vision_towers
from locheads.models.convert.__main__ import main
from locheads.models.convert.conversion import convert
from locheads.models.identity import identify
from locheads.store.digest import file_digest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written.llava().write(tmp_path / "source", shards=3)


def failing(source: Path, capsys: pytest.CaptureFixture, *options: str) -> str:
    """The one sentence that a conversion ends with, having left nothing behind."""
    result = source.parent / "result"
    assert main([str(source), str(result), *options]) == 1
    assert not result.exists() and not list(source.parent.glob(".result*"))
    sentence = capsys.readouterr().err
    assert sentence.startswith("error: ") and sentence.count("\n") == 1 and "Traceback" not in sentence
    return sentence


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def change_weights(path: Path, how: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = torch.load(path, weights_only=True)
    how(tensors)
    torch.save(tensors, path)


def shard_with(source: Path, key: str) -> Path:
    return source / json.loads((source / "pytorch_model.bin.index.json").read_text())["weight_map"][key]


def test_the_result_is_a_whole_checkpoint_with_its_manifest(source: Path, tmp_path: Path) -> None:
    manifest = convert(source, tmp_path / "result", shard_bytes=8000)
    assert json.loads((tmp_path / "result" / "conversion.json").read_text()) == manifest
    own, tower = manifest["sources"]["checkpoint"], manifest["sources"]["vision tower"]
    assert own["unused"] == {
        "follows from the configuration": [f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(3)]
    }
    assert (own["tensors"], own["mapped"]) == (37, 34)
    assert tower["unused"] == {"counts 0, 1, 2, ...": ["vision_model.embeddings.position_ids"]}
    for found, folder in ((own, source), (tower, source / "tower"), (manifest["result"], tmp_path / "result")):
        for name, digest in found["files"].items():
            if name != "conversion.json":
                assert file_digest(folder / name) == digest
    assert {"config.json", "pytorch_model-00002-of-00003.bin", "tokenizer.model"} < set(own["files"])
    files = sorted((tmp_path / "result").glob("*.safetensors"))
    assert len(files) > 3 and f"of-{len(files):05}" in files[0].name
    index = json.loads((tmp_path / "result" / "model.safetensors.index.json").read_text())
    assert {path.name for path in files} == set(index["weight_map"].values())
    assert identify(ModelConfig(id=str(tmp_path / "result"), dtype=DType.float32)).layers == written.LAYERS


def test_every_tensor_arrives_with_its_values_and_its_type(source: Path, tmp_path: Path) -> None:
    key = "model.layers.1.mlp.up_proj.weight"
    change_weights(shard_with(source, key), lambda tensors: tensors.update({key: tensors[key].half()}))
    manifest = convert(source, tmp_path / "result", shard_bytes=8000)
    made: dict[str, torch.Tensor] = {}
    for path in (tmp_path / "result").glob("*.safetensors"):
        made |= load_file(path)
    original = written.llava().weights
    for name, targets in manifest["map"]["checkpoint"].items():
        (target,) = targets
        found = made[target][: len(original[name])]
        assert torch.equal(found, original[name].half() if name == key else original[name]), name
        assert not made[target][len(original[name]) :].any()
    assert made[manifest["map"]["checkpoint"][key][0]].dtype == torch.float16
    head = made["lm_head.weight"]
    assert len(head) == len(original["lm_head.weight"]) + 1  # a row for the image's token


def test_safetensors_are_read_as_well_as_bin_and_one_file_as_well_as_many(tmp_path: Path) -> None:
    class Safe(written.Original):
        def write(self, folder: Path, shards: int = 2) -> Path:
            super().write(folder)
            for path in folder.glob("pytorch_model*"):
                path.unlink()
            save_file({key: tensor.clone() for key, tensor in self.weights.items()}, folder / "model.safetensors")
            return folder

    check_equal(Converted(Safe(**vars(written.llava())), tmp_path))


def test_a_tower_that_the_checkpoint_contains(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """It counts where the checkpoint says that it was tuned; else its own folder does, as in the original code."""
    for tuned in (True, False):
        made = written.llava(unfreeze_mm_vision_tower=tuned)
        config, tower, images = made.towers["tower"]
        prefix = "model.vision_tower.vision_tower."
        made.weights |= {prefix + key: value.clone() for key, value in tower.items()}
        other = written.llava(seed=9).towers["tower"][1]
        if tuned:  # the folder holds another one
            made.towers["tower"] = (config, other, images)
        else:
            made.weights |= {prefix + key: value for key, value in other.items()}
        folder = tmp_path / str(tuned)
        one = Converted(made, folder)
        check_equal(one)
        found = json.loads((one.result / "conversion.json").read_text())
        assert (
            "the original code reads the tower from its own folder" in found["sources"]["checkpoint"]["unused"]
        ) != tuned


def test_a_contained_tower_without_its_settings_is_taken_where_its_name_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written.llava()
    made.config["mm_vision_tower"] = "openai/clip-vit-small-patch8"
    config, tower, _ = made.towers.pop("tower")
    made.weights |= {"model.vision_tower.vision_tower." + key: value for key, value in tower.items()}
    sentence = failing(made.write(tmp_path / "source"), capsys)
    assert (
        "names its vision tower openai/clip-vit-small-patch8 and does not contain it, or not its settings" in sentence
    )
    settings = {key: value for key, value in config.items() if key != "model_type"}
    monkeypatch.setitem(vision_towers.KNOWN_CLIPS, "clip-vit-small-patch8", settings)
    check_equal(Converted(made, tmp_path / "again"))


def test_a_tower_that_is_not_there_is_asked_for_and_taken(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made = written.llava()
    made.config["mm_vision_tower"] = "openai/clip-vit-large-patch14-336"
    made.write(tmp_path / "source")
    (tmp_path / "source" / "tower").rename(tmp_path / "elsewhere")
    sentence = failing(tmp_path / "source", capsys)
    assert "names its vision tower openai/clip-vit-large-patch14-336 and does not contain it" in sentence
    assert "--vision-tower DIR" in sentence
    made.towers = {}
    check_equal(Converted(made, tmp_path / "again", "--vision-tower", str(tmp_path / "elsewhere")))


def delta(made: written.Original, base: dict[str, torch.Tensor]) -> written.Original:
    for key, tensor in base.items():
        rows = len(tensor)
        made.weights[key][:rows] -= tensor
    return made


def test_delta_weights_need_their_base_and_become_the_sum(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = written.llava("linear", wrapped=True, pad=False)
    maker = written.Maker(1)
    vocabulary = len(whole.words)
    maker.llama(vocabulary)
    base = {key: value for key, value in maker.made.items() if "inv_freq" not in key}
    base["model.norm.weight"] = whole.weights["model.norm.weight"] + 0.001  # as fine-tuning leaves it
    made = delta(written.llava("linear", wrapped=True, pad=False), base)
    made.write(tmp_path / "source")
    sentence = failing(tmp_path / "source", capsys)
    assert "holds delta weights" in sentence and "--base DIR" in sentence
    (tmp_path / "base").mkdir()
    written.write_shards(tmp_path / "base", base, 2)
    one = Converted(made, tmp_path / "again", "--base", str(tmp_path / "base"))
    assert max(Again(one, whole).differences()) < 2e-5  # the sum rounds once more
    up, down = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
    for wrong, part in (
        ({key: value for key, value in base.items() if key != up}, f"has no {up}"),
        ({**base, up: base[down].clone()}, f"{up} has the shape [48, 32] in the delta weights and [32, 48]"),
    ):
        written.write_shards(tmp_path / "base", wrong, 2)
        assert part in failing(tmp_path / "source", capsys, "--base", str(tmp_path / "base"))
    (tmp_path / "plain").mkdir()
    whole.write(tmp_path / "plain" / "source")
    sentence = failing(tmp_path / "plain" / "source", capsys, "--base", str(tmp_path / "base"))
    assert "whole weights, not delta weights" in sentence


class Again(Converted):
    """A conversion that is done, beside another original."""

    def __init__(self, done: Converted, original: written.Original) -> None:
        self.original, self.lvlm = original, done.lvlm
        self._expected = [original.decode(scene(), self.text(expression)) for expression in EXPRESSIONS]


def test_a_missing_shard(source: Path, capsys: pytest.CaptureFixture) -> None:
    (source / "pytorch_model-00002-of-00003.bin").unlink()
    assert "lacks 1 of the 3 weight files that its index names, such as pytorch_model-00002" in failing(source, capsys)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_bin(kept: float, source: Path, capsys: pytest.CaptureFixture) -> None:
    path = source / "pytorch_model-00001-of-00003.bin"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "pytorch_model-00001-of-00003.bin is damaged or incomplete" in failing(source, capsys)


@pytest.mark.parametrize("kept", [4, 0.5, 0.99])
def test_truncated_safetensors(kept: float, source: Path, capsys: pytest.CaptureFixture) -> None:
    whole = written.llava().weights
    for path in source.glob("pytorch_model*"):
        path.unlink()
    path = source / "model.safetensors"
    save_file(whole, path)
    path.write_bytes(path.read_bytes()[: int(kept if kept > 1 else path.stat().st_size * kept)])
    assert "model.safetensors is damaged or incomplete" in failing(source, capsys)


def test_a_shard_of_another_checkpoint(source: Path, capsys: pytest.CaptureFixture) -> None:
    change_weights(source / "pytorch_model-00001-of-00003.bin", lambda t: t.pop("model.layers.0.mlp.up_proj.weight"))
    sentence = failing(source, capsys)
    assert "lacks 1 tensors that the index promises, such as model.layers.0.mlp.up_proj.weight" in sentence


def test_a_shard_with_code_in_it_is_not_run(source: Path, capsys: pytest.CaptureFixture) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(source.parent / "harmed"),)

    torch.save({"model.norm.weight": Harmful()}, source / "pytorch_model-00001-of-00003.bin")
    assert "is damaged or incomplete" in failing(source, capsys)
    assert not (source.parent / "harmed").exists()


def test_a_wrong_type_of_numbers(source: Path, capsys: pytest.CaptureFixture) -> None:
    key = "model.layers.0.mlp.up_proj.weight"
    change_weights(shard_with(source, key), lambda tensors: tensors.update({key: tensors[key].to(torch.int8)}))
    sentence = failing(source, capsys)
    assert f"{key} of {source} holds numbers of type int8" in sentence and "quantized" in sentence


def test_a_weight_that_is_missing(source: Path, capsys: pytest.CaptureFixture) -> None:
    key = "model.layers.1.self_attn.v_proj.weight"
    change_weights(shard_with(source, key), lambda tensors: tensors.pop(key))
    change(source / "pytorch_model.bin.index.json", lambda index: index["weight_map"].pop(key))
    sentence = failing(source, capsys)
    assert "hold nothing for 1 weights of the model, such as model.language_model.layers.1.self_attn.v_proj" in sentence


def test_a_weight_that_has_no_rule(source: Path, capsys: pytest.CaptureFixture) -> None:
    shard = source / "pytorch_model-00001-of-00003.bin"
    change_weights(shard, lambda tensors: tensors.update({"model.extra.weight": torch.ones(2)}))
    assert "1 tensors that this format does not have, such as model.extra.weight" in failing(source, capsys)


def test_a_configuration_of_another_size(source: Path, capsys: pytest.CaptureFixture) -> None:
    change(source / "config.json", lambda config: config.update(intermediate_size=64))
    assert "has the shape [48, 32], and the model that config.json describes needs [64, 32]" in failing(source, capsys)
    change(source / "config.json", lambda config: config.update(intermediate_size=48, num_hidden_layers=2))
    assert "has no place in the model that config.json describes" in failing(source, capsys)


def test_damaged_settings(source: Path, capsys: pytest.CaptureFixture) -> None:
    (source / "config.json").write_text("{")
    assert "config.json cannot be read (Expecting property name" in failing(source, capsys)
    (source / "config.json").write_text('{"architectures": ["MptForCausalLM"], "model_type": "mpt"}')
    assert "(mpt) is of none of the formats mini_gemini, llava" in failing(source, capsys)
    assert "--format gguf is unknown: there are mini_gemini, llava" in failing(source, capsys, "--format", "gguf")
    (source / "config.json").unlink()
    assert "config.json cannot be read" in failing(source, capsys)
    assert "has no vocab_size" in failing(_with(source, {"mm_vision_tower": "x"}), capsys, "--format", "llava")


@pytest.mark.parametrize("kind", ["multi_modality", "internvl_chat"])
def test_an_original_whose_transformers_form_is_on_the_hub_is_said_to_need_no_conversion(
    kind: str, source: Path, capsys: pytest.CaptureFixture
) -> None:
    sentence = failing(_with(source, {"model_type": kind}), capsys)
    assert f"is a {kind!r} model in its authors' own format" in sentence
    assert f"use its transformers form, model.id={ON_THE_HUB[kind]}." in sentence


def _with(source: Path, settings: dict[str, Any]) -> Path:
    (source / "config.json").write_text(json.dumps(settings))
    return source


def test_other_choices_that_do_not_exist(source: Path, capsys: pytest.CaptureFixture) -> None:
    assert "--conversation french is unknown: there are llava_v1" in failing(source, capsys, "--conversation", "french")
    change(source / "config.json", lambda config: config.update(mm_projector_type="ldpnet"))
    assert "projector 'ldpnet' is unknown" in failing(source, capsys)


def test_an_index_that_points_out_of_its_folder(source: Path, capsys: pytest.CaptureFixture) -> None:
    change(source / "pytorch_model.bin.index.json", lambda index: index["weight_map"].update({"a": "../secret.bin"}))
    assert "names a file outside of its folder" in failing(source, capsys)


def test_a_destination_that_is_there_stays_as_it_is(source: Path, capsys: pytest.CaptureFixture) -> None:
    result = source.parent / "result"
    result.mkdir()
    (result / "mine.txt").write_text("mine")
    assert main([str(source), str(result)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in result.iterdir()] == ["mine.txt"]


def test_the_command_line_lists_formats_and_wants_two_folders(capsys: pytest.CaptureFixture) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.startswith("mini_gemini ")
    assert main(["only-one"]) == 1
    assert "SRC and DST" in capsys.readouterr().err


def test_no_more_than_a_result_files_limit_waits(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_at_once: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(checkpoint, "save_file", lambda batch, *_, **__: written_at_once.append(batch))
    convert(source, tmp_path / "result", shard_bytes=20_000)
    assert sum(map(len, written_at_once)) > 80
    for batch in written_at_once:
        assert len(batch) == 1 or sum(tensor.nbytes for tensor in batch.values()) <= 20_000


MEASURE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from locheads.models.convert.rules import Part, account, to
from locheads.models.convert.checkpoint import Checkpoint
from locheads.models.convert.conversion import stream

def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) // 1024

folder, megabytes, files = Path(sys.argv[1]), 24, 10
(folder / "in").mkdir()
(folder / "out").mkdir()
outline = {}
for i in range(files):
    tensors = {f"w{i}.{j}": torch.ones(megabytes // 4, 2**18) for j in range(4)}
    save_file(tensors, folder / "in" / f"model-{i}.safetensors")
    del tensors
    outline |= {f"w{i}.{j}": torch.empty(megabytes // 4, 2**18, device="meta") for j in range(4)}
parts = (Part("checkpoint", Checkpoint(folder / "in"), (to("(.+)", r"\\\\1"),)),)
plan = account(parts, outline)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
stream(parts, plan, folder / "out", limit=megabytes * 2**20)
print(peak() - before, megabytes * files)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak memory from Linux's /proc")
def test_peak_memory_is_that_of_one_file_and_not_of_all(tmp_path: Path) -> None:
    code = MEASURE.replace("\\\\", "\\")
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    grown, whole = map(int, run.stdout.split()[-2:])
    assert grown < 0.6 * whole
