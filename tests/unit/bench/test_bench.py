"""The benchmark measures what it says, and its ways agree."""

import json
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch

from locheads.bench import bench_attention as attention
from locheads.bench import bench_entropy as entropy
from locheads.bench import bench_scoring as evaluate
from locheads.bench.__main__ import main
from locheads.bench.meters import peak_extra_mib, seconds, spread
from locheads.bench.shapes import SHAPES, build, image, packed_flop
from locheads.data.prediction_files import read_predictions
from locheads.evaluation.truth import score_answers
from locheads.map_numbers import spatial_entropy
from locheads.models.adapters import Sharing

TINY, CPU = SHAPES["tiny"], torch.device("cpu")
ENGINELESS = (attention.TODAY, attention.HOOKED, *attention.CAPTURELESS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict:
    file = tmp_path_factory.mktemp("bench") / "deeper" / "tiny.json"
    before = torch.get_num_threads()
    assert main(["attention", "--shape", "tiny", "--rounds", "2", "--threads", "1", "--json", str(file)]) == 0
    torch.set_num_threads(before)
    return json.loads(file.read_text())


def test_the_record_holds_every_step_with_spread_ratio_floor_and_machine(written: dict) -> None:
    names = [step["name"] for step in written["steps"]]
    assert names[0] == attention.TODAY
    assert set(names) == {
        attention.TODAY, attention.ROWS, attention.EXIT, attention.PACKED, attention.BATCHED, attention.DISCOVERY,
        attention.DISCOVERY_BATCHED, attention.HOOKED, attention.BARE, attention.DISCOVERY_SPREAD,
        attention.ANSWER_ALONE, attention.ANSWER_PACKED,
    }  # fmt: skip
    today = written["steps"][0]["time"]["median"]
    for step in written["steps"]:
        time = step["time"]
        assert 0 < time["min"] <= time["median"] <= time["max"]
        assert len(time["all"]) == 2
        assert step["cpu"] > 0
        assert step["times_faster"] == pytest.approx(today / time["median"])
    floor = written["floor"]
    assert floor["ms_per_expression"] > 0
    best = min(s["time"]["median"] for s in written["steps"] if s["name"] in (attention.PACKED, attention.BATCHED))
    assert floor["best_over_floor"] == pytest.approx(best / floor["ms_per_expression"])
    assert {"processor", "cores", "torch", "threads", "load_average_at_start"} <= set(written["machine"])
    assert "extrapolated" not in written  # only of the real model's shape


def test_every_step_finds_the_maps_that_today_finds(written: dict) -> None:
    for step in written["steps"]:
        if step["name"] not in attention.CAPTURELESS:
            assert step["largest_difference_to_today"] < 2e-5, step["name"]


def test_the_compared_maps_are_not_all_alike() -> None:
    bench = attention.Bench(TINY, CPU)
    maps = np.stack(bench.today())
    assert maps.shape == (TINY.singles, 3, TINY.grid, TINY.grid)
    assert np.abs(maps[:, 0] - maps[:, 1]).max() > 1e-3


def test_steps_say_how_many_expressions_they_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, asked = attention.Bench(TINY, CPU), []
    real = attention.attend_prepared

    def counting(lvlm, images, budget, heads):
        asked.append(sum(len(one.suffixes) for one in images))
        return real(lvlm, images, budget, heads)

    monkeypatch.setattr(attention, "attend_prepared", counting)
    steps = [step for step in bench.steps() if step.name not in ENGINELESS]
    for step in steps:
        step.run()
    assert asked == [step.expressions for step in steps]


def test_both_ways_to_ask_give_the_same_answers() -> None:
    bench = attention.Bench(TINY, CPU)
    together = bench.answers(bench.images[0], Sharing.packed)
    assert together == bench.answers(bench.images[0], Sharing.plain)
    assert {len(answer.ids) for answer in together if answer} == {attention.ANSWER_TOKENS}
    assert len({answer.ids for answer in together if answer}) > 1


def test_the_extrapolation_is_of_the_real_shape_and_says_that_it_is_one() -> None:
    shape = SHAPES["llava_1_5_7b"]
    found = attention._extrapolated(shape, {attention.PACKED: [2.0, 4.0, 9.0]}, rate=4e14)["extrapolated"]
    assert "not run" in found["what"]
    assert found["seconds"][attention.PACKED] == pytest.approx(4.0 * 10_834 / 1000)
    # The study's figure: about 8 PFLOP for all of RefCOCO val, some 20 seconds at 400 TFLOP/s.
    assert 15 < found["floor_seconds"] < 25


def test_the_floor_counts_the_arithmetic_of_a_decoder_by_hand() -> None:
    tokens, h, m = 592 + 7 * 25, 1024, 2752
    six_layers = 6 * (2 * tokens * (4 * h * h + 3 * h * m) + 2 * tokens**2 * h)
    assert six_layers < packed_flop(SHAPES["small"]) < 1.15 * six_layers


def test_the_real_shape_is_that_of_llava_1_5_7b() -> None:
    with torch.device("meta"):
        model = build(SHAPES["llava_1_5_7b"], torch.device("meta"))
    n = sum(weight.numel() for weight in model.parameters())
    assert 7.0e9 < n < 7.1e9
    assert model.dtype == torch.bfloat16


def test_an_image_has_the_shape_s_tokens_and_spans_of_the_last() -> None:
    prepared = image(TINY)
    assert len(prepared.prefix) == TINY.prefix
    assert len(prepared.image_tokens) == TINY.grid**2
    assert [len(s) for s in prepared.suffixes] == [end for _, end in prepared.spans]
    assert len(prepared.suffixes) == TINY.suffixes


def test_memory_is_the_peak_of_the_call_and_not_what_remains() -> None:
    found = peak_extra_mib(lambda: [torch.ones(64 << 18) for _ in range(1)], CPU)  # 64 MiB
    again = peak_extra_mib(lambda: torch.ones(8 << 18), CPU)
    if found is None or again is None:
        pytest.skip("this system does not tell the peak of a process")
    assert 60 < found < 80
    assert again < 20


def test_seconds_and_spread() -> None:
    calls = []
    assert seconds(lambda: calls.append(1), CPU) >= 0
    assert calls == [1]
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "all": [3.0, 1.0, 2.0]}


def test_a_gpu_shape_on_a_cpu_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attention", "--shape", "llava_1_5_7b", "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --shape llava_1_5_7b is for a GPU")
    assert error.count("\n") == 1


def flood(one: np.ndarray) -> float:
    """Spatial entropy of a map with nothing but loops."""
    chosen = one > one.mean(dtype=np.float64)
    left, sizes = {(int(r), int(c)) for r, c in np.argwhere(chosen)}, []
    while left:
        queue, size = deque([left.pop()]), 0
        while queue:
            r, c = queue.popleft()
            size += 1
            for cell in [(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if cell in left:
                    left.remove(cell)
                    queue.append(cell)
        sizes.append(size)
    total = sum(sizes)
    return -sum(size / total * np.log(size / total) for size in sizes) if sizes else np.inf


def test_entropy_of_1024_maps_equals_a_plain_loop() -> None:
    maps = np.random.default_rng(1).random((1024, 24, 24)).astype(np.float32)
    maps[3] = 0.5
    found = spatial_entropy(maps)
    expected = np.array([flood(one) for one in maps])
    assert np.isinf(found[3]) and np.isinf(expected[3])
    rest = np.arange(1024) != 3
    np.testing.assert_allclose(found[rest], expected[rest], rtol=0, atol=1e-9)
    np.testing.assert_allclose(entropy.head_by_head(maps[rest]), expected[rest], rtol=0, atol=1e-9)
    assert np.abs(found[rest] - np.roll(expected[rest], 1)).max() > 0.1


def test_the_entropy_benchmark_compares_both_ways(tmp_path: Path) -> None:
    assert main(["entropy", "--rounds", "1", "--json", str(tmp_path / "e.json")]) == 0
    record = json.loads((tmp_path / "e.json").read_text())
    assert [step["name"] for step in record["steps"]] == ["one stack", "head by head"]
    assert record["largest_difference"] < 1e-9


def test_the_evaluate_benchmark_scores_boxes_and_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "e.json"
    assert main(["evaluate", "--rounds", "2", "--predictions", "700", "--json", str(file)]) == 0
    record = json.loads(file.read_text())
    assert [step["name"] for step in record["steps"]] == ["boxes, 700", "masks, 700"]
    for step in record["steps"]:
        assert len(step["time"]["all"]) == 2
        assert step["per_second"] == pytest.approx(1000 / step["time"]["median"])
    assert "per second" in capsys.readouterr().out


def test_the_evaluate_benchmark_answers_every_sample_with_another_shape(tmp_path: Path) -> None:
    shapes = evaluate._shapes()
    groups = evaluate._groups(shapes, 20)
    path = tmp_path / "p.jsonl"
    path.write_text("".join(evaluate._lines("masks", shapes, 20)))
    answers = read_predictions(path, evaluate.FORM, {str(i): (640, 480) for i in range(20)}, "it")
    (scores,) = [scores for _, scores in score_answers(answers, groups, "absent")]
    assert scores["error"].isna().all()
    assert 0 < (scores["intersection"] > 0).mean() < 1
    assert [len(group.samples) for group in groups] == [7, 7, 6]


@pytest.mark.parametrize("option", ["--rounds", "--threads", "--predictions"])
def test_counts_below_one_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["entropy", option, "0"])
    assert f"argument {option}: 0 is not 1 or more" in capsys.readouterr().err
