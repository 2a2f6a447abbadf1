"""The localization heads, read back from a run, from the package, or written by a user."""

import json
from pathlib import Path
from typing import Any

import pytest

from locheads.discovery.headset import (
    SCHEMA,
    check_headset,
    differences,
    parse_heads,
    published,
    published_for,
    read_headset,
)
from locheads.errors import ConfigError, StoreError
from locheads.geometry import Preprocess
from locheads.models.config import ModelConfig, PromptConfig, Query
from locheads.types import HeadIndex

GOOD: dict[str, Any] = {
    "schema": SCHEMA,
    "heads": [{"layer": 14, "head": 24, "frequency_mean": 0.5}, {"layer": 2, "head": 7}],
    "layers": 32,
    "heads_per_layer": 32,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "heads.json"


def test_heads_are_read_in_their_order_whatever_else_the_file_holds(file: Path) -> None:
    file.write_text(json.dumps(GOOD | {"tau": 0.2, "dataset": {"name": "refcoco", "split": "train"}}))
    found = read_headset(file)
    assert found.heads == (HeadIndex(14, 24), HeadIndex(2, 7))
    assert (found.source, found.found_on) == ("found by a run on refcoco train", ("refcoco", "train"))
    assert read_headset(file.parent).heads == found.heads  # a folder with one


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '{"schema": 1}', '{"schema": 1, "heads": 3}'])
def test_any_other_file_is_one_clear_error(content: str, file: Path) -> None:
    file.write_text(content)
    with pytest.raises(StoreError, match=r"heads\.json is no heads\.json of a run"):
        read_headset(file)


@pytest.mark.parametrize(
    "change",
    [
        {"heads": ["L1H2"]},
        {"heads": [{"layer": 1}]},
        {"heads": []},
        {"heads": [{"layer": 1, "head": 2}] * 2},
        {"heads": [{"layer": 32, "head": 0}]},
        {"heads": [{"layer": 0, "head": -1}]},
        {"layers": None},
    ],
)
def test_heads_that_make_no_sense_are_the_same_error(change: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(GOOD | change))
    with pytest.raises(StoreError, match=r"is no heads\.json of a run"):
        read_headset(file)


@pytest.mark.parametrize("schema", [0, SCHEMA + 1, "1", None])
def test_another_schema_version_is_named(schema: Any, file: Path) -> None:
    file.write_text(json.dumps(GOOD | {"schema": schema}))
    with pytest.raises(StoreError, match=rf"has the schema version {schema}, .* reads {SCHEMA}: make it again with"):
        read_headset(file)


def test_a_file_that_is_not_there_names_the_published_sets(file: Path) -> None:
    with pytest.raises(
        StoreError, match=r"There is no head set .*heads\.json: .*\(llava_1_5_13b, llava_1_5_7b, .*, pocket"
    ):
        read_headset(file)


@pytest.mark.parametrize(
    ("name", "model", "shape", "heads"),
    [
        ("llava_1_5_7b", "llava-hf/llava-1.5-7b-hf", (32, 32), "L14H24 L14H13 L14H26"),
        ("llava_1_5_13b", "llava-hf/llava-1.5-13b-hf", (40, 40), "L15H39 L16H30 L7H2"),
    ],
)
def test_the_papers_heads_are_published_as_the_papers(name: str, model: str, shape: tuple, heads: str) -> None:
    found = read_headset(name)
    assert " ".join(map(str, found.heads)) == heads
    assert (found.model, (found.layers, found.heads_per_layer)) == (model, shape)
    assert "from the paper" in found.source and "not found by us" in found.source
    assert published_for(model) == found


def test_every_published_set_can_be_read() -> None:
    assert {"llava_1_5_7b", "llava_1_5_13b", "pocket"} <= set(published())
    assert all(read_headset(name).heads for name in published())
    assert published_for("somebody/else") is None


def test_a_set_of_a_model_of_another_shape_is_refused() -> None:
    found = read_headset("llava_1_5_7b")
    check_headset(found, 32, 32)
    with pytest.raises(ConfigError, match="32 layers of 32 heads, but this model has 40 layers of 40 heads"):
        check_headset(found, 40, 40)


def test_names_of_heads_are_parsed_as_they_are_printed() -> None:
    heads = (HeadIndex(14, 24), HeadIndex(0, 0))
    assert parse_heads(str(head) for head in heads) == heads
    assert parse_heads(heads) == heads


@pytest.mark.parametrize(("names", "says"), [([], "There are no heads"), (["L1H1", "L2H0", "L1H1"], "L1H1 is named 2")])
def test_no_heads_and_heads_named_twice_are_refused(names: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_heads(names)


def _asked_with(**more: object) -> dict[str, object]:
    content = {"schema": SCHEMA, "heads": [{"layer": 1, "head": 0}], "layers": 5, "heads_per_layer": 4}
    return content | {"model": {"id": "m", "preprocess": "squash"}, "prompt": "<image>{expression}"} | more


SETTINGS = {
    "name": "own",
    "template": "<image>{expression}",
    "full_stop": False,
    "chat": False,
    "query": "expression_last",
}


def test_a_set_says_what_the_model_was_asked(tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text(json.dumps(_asked_with(prompt_settings=SETTINGS)))
    found = read_headset(tmp_path)
    assert found.preprocess is Preprocess.squash
    assert found.prompt == PromptConfig("own", "<image>{expression}", False, False, Query.expression_last)


def test_an_older_set_takes_that_from_the_config_of_its_run(tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text(json.dumps(_asked_with()))
    assert read_headset(tmp_path).prompt == PromptConfig("custom", "<image>{expression}")
    config = {"model": {"preprocess": "squash", "tiles": True}, "prompt": SETTINGS}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    found = read_headset(tmp_path)
    assert found.tiles and found.prompt is not None and found.prompt.query == Query.expression_last
    # Another run's file, which was copied here, says nothing of this set.
    (tmp_path / "config.yaml").write_text(json.dumps(config | {"prompt": SETTINGS | {"template": "other"}}))
    assert read_headset(tmp_path).prompt == PromptConfig("custom", "<image>{expression}")


def test_what_differs_from_the_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text(json.dumps(_asked_with(prompt_settings=SETTINGS)))
    found = read_headset(tmp_path)
    assert found.prompt is not None
    same = ModelConfig(id="m", preprocess=Preprocess.squash)
    assert differences(found, same, found.prompt) == []
    said = " ".join(differences(found, ModelConfig(id="n"), PromptConfig()))
    assert "are those of m; this model is n" in said
    assert "preprocess=squash, and images are prepared with preprocess=pad here" in said
    assert "another prompt ('<image>{expression}', full_stop=False" in said
    assert differences(read_headset("llava_1_5_7b"), ModelConfig(id="llava-hf/llava-1.5-7b-hf"), PromptConfig()) == []


@pytest.mark.parametrize(
    "more",
    [
        {"prompt_settings": SETTINGS | {"query": "first"}},
        {"prompt_settings": [1]},
        {"prompt_settings": {"nonsense": 1}},
        {"model": {"id": "m", "preprocess": "bend"}},
        {"model": [1]},
        {"heads": "L1H0"},
        {"layers": "many"},
    ],
)
def test_a_damaged_set_is_one_sentence(more: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text(json.dumps(_asked_with() | more))
    with pytest.raises(StoreError, match=r"is no heads\.json of a run \(.*\): make one"):
        read_headset(tmp_path)


@pytest.mark.parametrize("name", ["", "14,24", "l14h24", "L14", "L14H24 ", "L-1H2", "L1H2H3"])
def test_a_name_that_is_no_head_is_refused(name: str) -> None:
    with pytest.raises(StoreError, match="write layer and head"):
        parse_heads(["L1H1", name])
