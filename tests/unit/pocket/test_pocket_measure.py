"""The table's row of a pocket model: its hits against boxes by the library, its shares against what is known of it."""

from dataclasses import asdict

import pytest

from locheads import Grounder, HeadIndex, load_model
from locheads.data.image_files import open_image
from locheads.models.attend import attend
from locheads.models.config import PromptConfig
from locheads.pocket.dataset import split_scenes
from locheads.pocket.training.measure import HeadsRow, fresh_data, hits, main, measure, read_fresh, shown
from locheads.pocket.training.probe import folder_of
from locheads.pocket.training.probe import main as probe

FOUND = [HeadIndex(2, 4), HeadIndex(2, 3), HeadIndex(2, 2)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def group(cache):
    return read_fresh(fresh_data(1_000_000, 4), cache)["test"][0]


def test_hits_are_those_of_the_library_s_boxes(group):
    model = load_model("pocket")
    sets = [FOUND, FOUND[:1], [HeadIndex(7, 7)]]
    found = hits(attend(model, group, open_image(group), PromptConfig()), group, [*sets, None])
    assert found.shape == (len(group.samples), 4)
    for column, heads in enumerate(sets):
        boxes = Grounder(model, heads=heads).each(group.path, [sample.expression for sample in group.samples])
        right = [overlap(one.box, sample.box) >= 0.5 for one, sample in zip(boxes, group.samples, strict=True)]
        assert found[:, column].tolist() == right
    assert found[:, 0].mean() > found[:, 2].mean()


def overlap(a, b):
    if a is None:
        return 0.0
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (areas - width * height)


def test_fresh_scenes_are_no_scenes_of_the_pocket_data():
    fresh = {i for split in ("discovery", "test") for i, _ in split_scenes(split, fresh_data(1_000_000, 4))}
    assert len(fresh) == 8 and min(fresh) == 1_000_000
    assert not fresh & {i for split in ("train", "val", "testA", "testB") for i, _ in split_scenes(split)}


def test_the_second_edition_is_more_like_real_models_than_the_first(cache):
    """On 12 scenes of no trial. As in its card: three heads localize, most rest, the mean is no rival."""
    first, second = (measure(folder_of(name), cache, 5_000_000, images=12) for name in ("pocket_v1", "pocket"))
    assert second.localizers <= 6 < 12 < first.localizers
    assert second.mean_of_all.value < 0.5 < first.mean_of_all.value
    assert second.random.value < first.random.value and second.low_sums > 0.6 > first.low_sums
    assert second.found.value > 0.8 and second.answers.value > 0.85 and second.trials_agree
    for row in (first, second):
        for alone, over in ((row.s_img, row.over_s_img), (row.entropy, row.over_entropy)):
            assert over.value == pytest.approx(row.found.value - alone.value) and over.low <= over.value <= over.high
    assert first.over_s_img.value < second.over_s_img.value  # heads of one sum are near each other: no more than that


def test_the_row_of_the_shipped_model(cache):
    row = measure(folder_of("pocket"), cache, images=4)
    assert isinstance(row, HeadsRow) and row.heads == 64 and row.n_images == 4
    # As in its card: few heads localize, most rest. Four images say no more than that.
    assert 1 <= row.localizers < 8 and row.tau < 0.4 < row.low_sums
    assert row.found.value > row.random.value and row.answers.value > 0.75
    assert set(row.chosen) == {"found", "s_img", "entropy"} and all(len(heads) == 3 for heads in row.chosen.values())
    assert len(shown(row).split(" | ")) == 11 and asdict(row)["mean_of_all"]["value"] == row.mean_of_all.value


@pytest.mark.parametrize("command", [main, probe])
def test_a_model_that_is_not_there_is_named(command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["command", "pocket_v9"])
    assert command() == 1 and "There is no pocket model pocket_v9: give pocket, pocket_v1 or" in capsys.readouterr().err
