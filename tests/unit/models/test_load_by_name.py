"""A model that is only named has the settings of conf/model, or of its family."""

import json

import pytest

from locheads.errors import ConfigError
from locheads.geometry import Preprocess
from locheads.models.config import DType, ModelConfig
from locheads.models.load import CONF, model_config


@pytest.mark.parametrize("name", ["llava_1_5_7b", "llava-hf/llava-1.5-7b-hf"])
def test_a_file_of_conf_model_is_found_by_its_name_and_by_its_id(name):
    llava = model_config(name)
    assert (llava.id, llava.dtype, llava.preprocess) == ("llava-hf/llava-1.5-7b-hf", DType.bfloat16, Preprocess.pad)


def test_every_file_of_conf_model_is_found_by_its_id():
    for file in CONF.glob("*.yaml"):
        by_name = model_config(file.stem)
        assert model_config(by_name.id) == by_name, file


@pytest.mark.parametrize(
    ("config", "preprocess"),
    [
        ({"model_type": "llava"}, Preprocess.pad),
        ({"model_type": "llava", "vision_config": {"model_type": "pixtral"}}, Preprocess.native),
        ({"model_type": "vipllava"}, Preprocess.pad),
        ({"model_type": "qwen2_5_vl"}, Preprocess.native),
        ({"model_type": "internvl"}, Preprocess.native),
        ({"model_type": "gemma3"}, Preprocess.native),
    ],
)
def test_a_folder_has_its_familys_preprocessing(config, preprocess, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_config(str(tmp_path)).preprocess is preprocess


def test_pocket_needs_no_file_and_what_is_nothing_is_named(tmp_path):
    assert model_config("pocket", conf=tmp_path) == ModelConfig()
    with pytest.raises(ConfigError, match=r"There is no model llava: .* llava_1_5_13b, llava_1_5_7b"):
        model_config("llava")
