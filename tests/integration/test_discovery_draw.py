"""discovery.draw=image: whole images are drawn, the records say so, and no result of another draw is taken over."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny
from running import Result, TinyFiles

from locheads.config import Config, Stage
from locheads.dependence.config import DependenceConfig
from locheads.discovery.config import DiscoveryConfig, Draw
from locheads.pipeline.draw_costs import discovery_candidates, draw_costs
from locheads.pipeline.inputs import Inputs, load_inputs, open_dataset
from locheads.records.heads_file import HeadsFile
from locheads.report.tables import heads_caption, heads_rows
from locheads.types import HeadScores
from locheads.workers.split_work import TokenCost


def _config(files: TinyFiles, outputs: Path, draw: Draw, n_samples: int = 12, cache: Path | None = None) -> Config:
    discovery = DiscoveryConfig(draw=draw, n_samples=n_samples, trials=2)
    return files.config(outputs, cache, discovery=discovery, stage=Stage.discover)


def _parts(inputs: Inputs) -> list[list[int]]:
    """Per trial how many of each image's five expressions it draws, of images with any."""
    image = {sample.sample_id: group.image_id for group in inputs.discovery for sample in group.samples}
    return [sorted(Counter(image[key] for key in trial).values()) for trial in inputs.trials]


def test_a_run_draws_whole_images_and_its_records_say_so(
    files: TinyFiles, tmp_path: Path, store: Path, run: Callable[[Config], Path]
) -> None:
    by_image = _config(files, tmp_path, Draw.image, cache=store)
    inputs = load_inputs(by_image)
    assert _parts(inputs) == [[2, 5, 5]] * 2
    heads = HeadsFile.read(run(by_image))
    assert (heads.draw, heads.n_samples, heads.trials) == ("image", 12, 2)
    assert heads.n_images == len(inputs.discovery)
    assert heads.n_expressions == len({key for trial in inputs.trials for key in trial})
    assert f"12 samples x 2 trials ({heads.n_expressions} different ones of" in heads_caption(heads)
    assert "images, drawn by whole images)" in heads_caption(heads)
    assert "on fewer than 30 images: take figure and interval as rough" in heads_caption(heads)
    for found, (_, text, *_) in zip(heads.found, heads_rows(heads), strict=True):
        assert found.frequency_low <= heads.frequency_mean[found.layer, found.head] <= found.frequency_high
        assert f"\u2020 [{100 * found.frequency_low:.1f}, {100 * found.frequency_high:.1f}] ± " in text


def test_the_default_is_the_papers_draw_and_older_files_have_no_interval(
    files: TinyFiles, tmp_path: Path, store: Path, run: Callable[[Config], Path]
) -> None:
    assert files.config(tmp_path).discovery.draw == Draw.expression
    folder = run(_config(files, tmp_path, Draw.expression, cache=store))
    assert [trial["samples"] for trial in json.loads((folder / "samples.json").read_text())["trials"]] != [
        list(trial) for trial in load_inputs(_config(files, tmp_path, Draw.image)).trials
    ]
    content = json.loads((folder / "heads.json").read_text())
    assert content["draw"] == "expression" and content["heads"][0]["frequency_low"] is not None
    for name in ("draw", "n_images", "n_expressions"):
        del content[name]
    for head in content["heads"]:
        del head["frequency_low"], head["frequency_high"]
    older = HeadsFile.parse(content)
    assert (older.draw, older.n_images) == ("expression", None)
    assert "[" not in heads_rows(older)[0][1] and "Brackets" not in heads_caption(older)


def test_samples_are_of_the_images_that_the_groups_say(files: TinyFiles, tmp_path: Path) -> None:
    inputs = load_inputs(_config(files, tmp_path, Draw.image))
    ids = [sample.sample_id for group in inputs.discovery for sample in group.samples]
    backwards = HeadScores(tuple(reversed(ids[1:])), {})
    expected = [i for i, group in enumerate(inputs.discovery) for _ in group.samples][1:]
    np.testing.assert_array_equal(inputs.images_of(backwards), expected[::-1])


def test_the_cost_of_either_draw_is_told_before_the_run(files: TinyFiles, tmp_path: Path) -> None:
    config = replace(_config(files, tmp_path, Draw.image), dependence=DependenceConfig(images=5))
    data = open_dataset(config.dataset, config.paths)
    told = draw_costs(config, discovery_candidates(config, data), TokenCost(shared=True, template=40)).split("; ")
    for text, draw in zip(told, (Draw.image, Draw.expression), strict=True):  # the one that is set comes first
        inputs = load_inputs(replace(_config(files, tmp_path, draw), dependence=config.dependence))
        groups, n = inputs.discovery, sum(len(group.samples) for group in inputs.discovery)
        asked = {s.sample_id: s.expression for group in (*groups, *inputs.judged) for s in group.samples}
        images = {group.image_id for group in (*groups, *inputs.judged)}
        assert len(asked) > n  # some that are judged were not drawn
        # An image's 576 tokens and ten of the prompt, once; per expression a token for 4 characters, and two.
        tokens = 586 * len(images) + sum(len(expression) / 4 + 2 for expression in asked.values())
        judged = f"with those that are judged {len(asked)} of {len(images)}"
        assert text == (
            f"discovery.draw={draw.value}: {n} expressions of {len(groups)} images ({n / len(groups):.2f} per image), "
            f"{judged}, about {tokens:,.0f} tokens"
        )


def test_no_cost_is_told_of_images_that_discovery_must_not_see(files: TinyFiles, tmp_path: Path) -> None:
    copy = files.copy(tmp_path / "copy")
    config = _config(copy, tmp_path, Draw.image)
    data = open_dataset(config.dataset, config.paths)
    before = {group.image_id for group in discovery_candidates(config, data)}
    (copy.folder.parent / "other").mkdir()
    tiny.write_refs(copy.folder.parent / "other", [{"image_id": 100, "split": "test"}])
    assert before - {group.image_id for group in discovery_candidates(config, data)} == {"100"}


def test_a_result_of_another_draw_is_not_taken_over_even_where_the_samples_are_the_same(
    files: TinyFiles, tmp_path: Path, store: Path, command: Callable[..., Result]
) -> None:
    arguments = [*files.arguments(tmp_path, store), "stage=discover", "study=draws", "heads.k=1"]
    arguments[arguments.index("discovery.n_samples=20")] = "discovery.n_samples=999"
    first = command("-m", *arguments)
    assert first.code == 0, first.out
    assert command("-m", *arguments, "discovery.draw=expression,image").code == 0
    taken = [path.parent.name for path in (tmp_path / "draws").glob("sweep_*/*/done_before.json")]
    assert len(taken) == 1 and "expression" in taken[0]
    digests = {json.loads(path.read_text())["digest"] for path in (tmp_path / "draws").rglob("provenance.json")}
    assert len(digests) == 2
