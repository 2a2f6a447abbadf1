"""The registry of head sets: its figures against their sources, two sets against a plain loop, and sets of others."""

import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locheads.config import Config
from locheads.discovery.config import HeadsConfig
from locheads.discovery.headset import HeadSet, check_headset, published, published_for, read_headset
from locheads.errors import ConfigError, LocHeadsError
from locheads.heads.__main__ import main
from locheads.heads.set_comparison import UNKNOWN, compare_sets, how_found, rank_agreement
from locheads.models.config import ModelConfig
from locheads.models.identity import POCKET_FOLDERS, ModelIdentity
from locheads.pipeline.given_heads import given_heads
from locheads.records.heads_file import HowFound
from locheads.report.heads_page import write_heads_page
from locheads.types import HeadIndex

METHOD = Path("/work/shared/method.md")
"""The notes on the method that the paper's and the rerun's figures are of."""

# As the sources give them: name -> heads, layers, heads per layer.
SOURCES = {
    "llava_1_5_7b": ("L14H24 L14H13 L14H26", 32, 32),
    "llava_1_5_13b": ("L15H39 L16H30 L7H2", 40, 40),
    "llava_1_5_7b_rerun_c1": ("L14H24 L14H26 L14H29 L10H29 L10H23 L10H8 L11H14 L15H5", 32, 32),
    "llava_next_7b_sparsemm_ocr": ("L14H24 L15H14 L15H12 L21H30 L16H19", 32, 32),
    "qwen3_vl_8b_last_token": ("L25H8 L27H31 L29H1 L9H14 L26H29", 36, 32),
    "qwen3_vl_8b_box_tokens": ("L4H29 L14H4 L9H14 L22H4 L23H30", 36, 32),
    "qwen3_vl_8b_iploc": ("L18H15 L19H3 L22H0 L20H8", 36, 32),
}
RERUN = (0.571, 0.406, 0.246, 0.217, 0.207, 0.154, 0.131, 0.122)


def test_the_registry_holds_what_the_sources_give() -> None:
    assert set(published()) == {*SOURCES, *POCKET_FOLDERS}
    for name, (heads, *shape) in SOURCES.items():
        found = read_headset(name)
        assert (" ".join(map(str, found.heads)), found.layers, found.heads_per_layer) == (heads, *shape)
        assert "not found by us" in found.source and found.how is not None and found.how.by_us is False
        assert [found.ranks[head] for head in found.heads] == [*range(1, 1 + len(found.heads))]
    rerun, ocr = read_headset("llava_1_5_7b_rerun_c1"), read_headset("llava_next_7b_sparsemm_ocr")
    second, third = HeadIndex(14, 13), HeadIndex(14, 26)
    assert [rerun.frequency[head] for head in rerun.heads] == [*RERUN]
    assert (rerun.ranks[second], rerun.frequency[second]) == (13, 0.089) and second not in rerun.heads
    assert (ocr.ranks[second], ocr.ranks[third], ocr.frequency) == (22, 102, {})
    measured = {
        name: read_headset(f"qwen3_vl_8b_{name}_token{s}").how.measured for name, s in (("last", ""), ("box", "s"))
    }
    assert measured == {"last": {"pointing": 0.07}, "box": {"pointing": 0.417}}


@pytest.mark.skipif(not METHOD.exists(), reason=f"{METHOD} is not there")
def test_the_papers_and_the_reruns_figures_are_those_of_the_notes() -> None:
    text = " ".join(METHOD.read_text().split())
    for name, model in (("llava_1_5_7b", "LLaVA-1.5-7B"), ("llava_1_5_13b", "LLaVA-1.5-13B")):
        (said,) = re.findall(rf"{model} (L\d+H\d+, L\d+H\d+, L\d+H\d+)[;.]", text)
        assert said == ", ".join(map(str, read_headset(name).heads))
    rerun = read_headset("llava_1_5_7b_rerun_c1")
    said = text.split("found frequencies")[1].split("with L14H13")[0]
    assert re.findall(r"(L\d+H\d+) (\.\d+)", said) == [(str(h), f"{rerun.frequency[h]:.3f}"[1:]) for h in rerun.heads]


@pytest.mark.parametrize("name", published())
def test_every_file_says_what_is_not_known(name: str) -> None:
    path = Path(__file__).parents[3] / f"src/locheads/heads/{name}.json"
    content = json.loads(path.read_text())
    assert content["schema"] == 1 and content["model"]["revision"] is None
    if name not in POCKET_FOLDERS:  # as its run wrote it
        assert set(HowFound.model_fields) <= set(content["how"])
    facts = how_found(read_headset(name))
    assert facts["revision"] == UNKNOWN and all(facts.values())


def test_a_set_is_taken_unasked_only_where_it_bears_the_models_name() -> None:
    found = published_for("llava-hf/llava-1.5-7b-hf")
    assert found is not None and found.name == "llava_1_5_7b"
    assert published_for("Qwen/Qwen3-VL-8B-Instruct") is None  # whose published sets differ too much for a default


@pytest.mark.parametrize("name", published())
def test_a_set_is_refused_by_a_model_that_it_does_not_fit(name: str) -> None:
    found = read_headset(name)
    check_headset(found, found.layers, found.heads_per_layer)
    with pytest.raises(ConfigError, match=f"{name} holds heads of .* but this model has 24 layers of 16 heads"):
        check_headset(found, 24, 16)


@pytest.mark.parametrize("name", published())
def test_heads_set_takes_every_set_where_the_model_fits(name: str) -> None:
    found = read_headset(name)
    config = Config(model=ModelConfig(id=found.model or ""), heads=HeadsConfig(set=name, k=len(found.heads)))
    identity = ModelIdentity("folder", "llava", found.layers, found.heads_per_layer, "weights")
    given = given_heads(config, identity)
    assert given is not None and given.heads == found.heads
    with pytest.raises(ConfigError, match="but this model has 4 layers of 2 heads"):
        given_heads(config, replace(identity, layers=4, heads=2))
    # A head of known rank that does not follow the first ones is never taken.
    with pytest.raises(ConfigError, match=f"is more than the {len(found.heads)} heads of heads.set={name}"):
        given_heads(replace(config, heads=HeadsConfig(set=name, k=1 + len(found.heads))), identity)


# Two sets side by side.


def plain_tau(a: list[int], b: list[int]) -> float:
    """Vigna's weighted tau with hyperbolic weights, from its definition: pair by pair, tied pairs counting for neither;
    the mean of the weights by the order of a (then b) and by the order of b (then a)."""

    def by(first: list[int], second: list[int]) -> float:
        order = sorted(range(len(first)), key=lambda i: (first[i], second[i]))
        place = {head: at for at, head in enumerate(order)}
        both = only_a = only_b = 0.0
        for i, j in combinations(range(len(a)), 2):
            weight = 1 / (1 + place[i]) + 1 / (1 + place[j])
            of_a, of_b = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
            both += weight * of_a * of_b
            only_a += weight * of_a**2
            only_b += weight * of_b**2
        return float(both / np.sqrt(only_a * only_b))

    return (by(a, b) + by(b, a)) / 2


def test_the_paper_and_the_rerun_against_a_plain_loop() -> None:
    paper, rerun = read_headset("llava_1_5_7b"), read_headset("llava_1_5_7b_rerun_c1")
    found = compare_sets(paper, rerun)
    mine, theirs = SOURCES["llava_1_5_7b"][0].split(), SOURCES["llava_1_5_7b_rerun_c1"][0].split()
    assert [str(head) for head in found.shared] == [head for head in mine if head in theirs] == ["L14H24", "L14H26"]
    assert found.first == tuple(sum(head in theirs[:n] for head in mine[:n]) for n in (1, 2, 3)) == (1, 1, 2)
    every = list(dict.fromkeys([*mine, *theirs]))
    a = [mine.index(head) + 1 if head in mine else 4 for head in every]
    b = [13 if head == "L14H13" else theirs.index(head) + 1 for head in every]
    assert found.agreement == pytest.approx(plain_tau(a, b), abs=1e-12)
    assert found.ranks[HeadIndex(14, 13)] == (2, 13) and found.ranks[HeadIndex(14, 29)] == (None, 3)
    assert {"prompt", "criterion", "data", "source", "revision"} <= set(found.differs)
    assert not {"model", "row"} & set(found.differs)


def of_heads(*names: str) -> HeadSet:
    heads = tuple(HeadIndex(*map(int, re.findall(r"\d+", name))) for name in names)
    return HeadSet(heads, "own", "nobody", None, 32, 32, ranks={head: n for n, head in enumerate(heads, start=1)})


def test_agreement_runs_from_the_reverse_to_the_same() -> None:
    a = of_heads("L1H1", "L2H2", "L3H3", "L4H4")
    assert rank_agreement(a, a) == pytest.approx(1)
    assert rank_agreement(a, of_heads("L4H4", "L3H3", "L2H2", "L1H1")) == pytest.approx(-1)
    first, last = of_heads("L2H2", "L1H1", "L3H3", "L4H4"), of_heads("L1H1", "L2H2", "L4H4", "L3H3")
    assert -1 < rank_agreement(a, first) < rank_agreement(a, last) < 1  # type: ignore[operator]
    assert rank_agreement(of_heads("L1H1"), of_heads("L1H1")) is None
    assert rank_agreement(a, of_heads("L5H5", "L6H6")) < 0  # type: ignore[operator]


def test_heads_of_models_of_other_shapes_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="32 layers of 32 heads, llava_1_5_13b of one with 40 layers of 40 heads"):
        compare_sets(read_headset("llava_1_5_7b"), read_headset("llava_1_5_13b"))


# Sets of others.


def imported(path: Path, content: Any, *more: str) -> HeadSet:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert main(["import", str(path), str(path.with_name("heads.json")), *more]) == 0
    return read_headset(path.with_name("heads.json"))


@pytest.mark.parametrize("content", [["L14H24", "L3H0"], [[14, 24], [3, 0]], ["L14H24", [3, 0]]])
def test_a_list_of_heads_is_read(content: list, tmp_path: Path) -> None:
    found = imported(tmp_path / "list.json", content, "--like", "llava_1_5_7b", "--source", "a friend")
    assert found.heads == (HeadIndex(14, 24), HeadIndex(3, 0)) and found.source == "a friend"
    assert (found.layers, found.heads_per_layer, found.model) == (32, 32, "llava-hf/llava-1.5-7b-hf")


def test_scores_are_read_and_rank_every_head(tmp_path: Path) -> None:
    """The public shape: a key "layer-head" per head, in it a score per sample."""
    scores = np.random.default_rng(3).random((4, 6, 5))
    scores[2, 1], scores[0, 3] = 2.0, 1.5
    content = {f"{layer}-{head}": scores[layer, head].tolist() for layer in range(4) for head in range(6)}
    found = imported(tmp_path / "scores.json", content, "--k", "4", "--model", "some/model")
    ranked = sorted(((-sum(values) / 5, *map(int, key.split("-"))) for key, values in content.items()))
    assert [str(head) for head in found.heads] == [f"L{layer}H{head}" for _, layer, head in ranked[:4]]
    assert found.heads[:2] == (HeadIndex(2, 1), HeadIndex(0, 3))
    assert found.ranks == {HeadIndex(*place): n for n, (_, *place) in enumerate(ranked, start=1)}
    assert (found.layers, found.heads_per_layer, found.model) == (4, 6, "some/model")
    one = imported(tmp_path / "one.json", {key: sum(values) / 5 for key, values in content.items()}, "--k", "4")
    assert one.heads == found.heads  # a mean instead of the samples


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is no head set"),
        ("{", "is no head set"),
        ("3", "is no head set"),
        ({}, "is no head set"),
        ([], "There are no heads"),
        (["L1H1", "L1H1"], "L1H1 is named 2 times"),
        (["14-24"], "'14-24' is no head"),
        ([[1, 2, 3]], "is no head"),
        ([[99, 0]], "L99H0 does not exist in 32 layers of 32 heads"),
        ({"heads": []}, "'heads' is no layer-head"),
        ({"0-0": [1.0], "1-1": [2.0]}, "of 2 layers of 2 heads it has 2 scores"),
        ({"0-0": [1.0], "0-1": []}, "'0-1' has no score"),
        ({"0-0": "high"}, "is no head set"),
        ({"0-0": [1.0], "0-1": [-2.0]}, "'0-1' has no score, or one that is no number from 0 on"),
        (["L1H1", None], "is no head"),
    ],
)
def test_a_malformed_file_is_one_sentence(content: Any, says: str, tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert main(["import", str(path), str(tmp_path / "heads.json"), "--like", "llava_1_5_7b"]) == 1
    error = capfd.readouterr().err
    assert says in error and error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "heads.json").exists()


def test_a_list_without_the_models_shape_asks_for_it(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "list.json").write_text('["L1H1"]')
    assert main(["import", str(tmp_path / "list.json"), str(tmp_path / "heads.json")]) == 1
    assert "add --like SET or --shape" in capfd.readouterr().err
    assert imported(tmp_path / "list.json", ["L1H1"], "--shape", "2x3").heads_per_layer == 3


@pytest.mark.parametrize(
    "change",
    [
        {"how": {"row": "last"}},
        {"how": 3},
        {"also_ranked": [{"layer": 1, "head": 1, "rank": 2}]},
        {"also_ranked": [{"layer": 14, "head": 24, "rank": 20}]},
        {"also_ranked": [{"layer": 40, "head": 0, "rank": 20}]},
        {"score": [[1.0, 2.0]]},
    ],
)
def test_a_malformed_set_is_one_sentence(change: dict, tmp_path: Path) -> None:
    source = Path(__file__).parents[3] / "src/locheads/heads/llava_1_5_7b_rerun_c1.json"
    (tmp_path / "heads.json").write_text(json.dumps(json.loads(source.read_text()) | change))
    with pytest.raises(LocHeadsError, match=r"is no heads\.json of a run \(.*\): make one"):
        read_headset(tmp_path)


# The command and the page.


def test_the_command_shows_every_set(capsys: Any) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in published())
    assert main(["show", "llava_1_5_7b_rerun_c1"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "found by us no" in text and "date not known" in text and "L14H13 13 8.9" in text and "L15H5 8 12.2" in text
    assert main(["compare", "llava_1_5_7b", "llava_1_5_7b_rerun_c1"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Shared among the first: 1 of 1, 1 of 2, 2 of 3." in text and "L14H13 2 13" in text


def test_what_is_not_there_is_one_sentence(capfd: Any) -> None:
    assert main(["show", "nothing"]) == 1
    assert capfd.readouterr().err.startswith("error: There is no head set nothing: ")


def test_the_page_has_a_picture_of_each_and_escapes_text(tmp_path: Path) -> None:
    sets = [read_headset(name) for name in ("pocket", "qwen3_vl_8b_iploc")]
    path = write_heads_page(tmp_path / "heads.html", [(found, {"row": "<b>last</b>"}) for found in sets])
    page = path.read_text()
    assert page.count("<img") == page.count("<source") == 2 and page.count("data:image/svg+xml") == 4
    assert "with L18H15, L19H3, L22H0, L20H8 outlined" in page and "IPLoc-ID" in page
    assert "&lt;b&gt;last" in page and "<b>last" not in page
