"""AGD20K in its authors' layout: truths as heat maps, expressions of templates, no box and no mask."""

import ast
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from affordance_files import CONF, agd20k
from own_files import samples_of
from PIL import Image
from pycocotools import mask as coco

from locheads.data.agd20k import Agd20kDataSet
from locheads.data.checks import CheckState, check_kinds, check_samples, official_counts, official_kinds
from locheads.data.image_files import read_heat
from locheads.data.own_reader import OwnDataSet
from locheads.data.tally import Tally
from locheads.errors import ConfigError, DataError
from locheads.pocket.task_files import gaussian, write_affordance, write_affordances
from locheads.types import NO_BOX, ImageGroup

COUNTS = Path(__file__).parents[4] / "shared" / "data" / "tasks" / "agd20k" / "seen_counts_from_SelectiveCL.txt"
OFFICIAL = "agd20k/authors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_affordances(tmp_path_factory.mktemp("made"), 4)


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "AGD20K"))


def test_images_with_their_affordances(root: Path) -> None:
    groups = agd20k(root).read("seen")
    # Four scenes; two of them lie in a second folder, and are one image there, too.
    assert len(groups) == 4 and sorted(len(group.samples) for group in groups) == [1, 1, 2, 2]
    assert all(group.path.exists() and group.samples[0].category in group.image_id for group in groups)
    for sample in samples_of(groups):
        affordance = sample.kinds[0]
        phrase = {"hold": "hold the", "cut_with": "cut with the"}[affordance]
        assert sample.expression == f"where does one {phrase} {sample.category}"
        assert sample.sample_id.startswith(f"seen-{affordance}-{sample.category}-")
        assert sample.box == NO_BOX and coco.area(sample.mask) == 0 and sample.heat is not None
        assert sample.heat.parts[-4:-1] == ("GT", affordance, sample.category)
    heat = read_heat(samples_of(groups)[0].heat)  # type: ignore[arg-type]
    assert heat.max() == 1 and heat.shape == (groups[0].height, groups[0].width)


def test_the_expression_is_as_the_settings_say(root: Path) -> None:
    asked = agd20k(root, template="the part to {phrase}", affordances={"hold": "grip {object}", "cut_with": "{object}"})
    assert {s.expression.replace(s.category, "X") for s in samples_of(asked.read("seen"))} == {
        "the part to grip X", "the part to X"
    }  # fmt: skip
    declared = yaml.safe_load(CONF.read_text())["affordances"]
    assert {*declared} == {*official_kinds(OFFICIAL, "seen")} and len(declared) == 36
    assert all("{object}" in phrase for phrase in declared.values())
    assert asked.digest != agd20k(root).digest


def test_another_image_of_the_same_name_is_another_image(root: Path) -> None:
    write_affordance(root, ("Seen", "hold", "cup", "cup_1"), Image.new("RGB", (30, 20)), gaussian((30, 20), (9, 9), 3))
    write_affordance(root, ("Seen", "cut_with", "cup", "cup_1"), Image.new("RGB", (30, 20), "red"),
                     gaussian((30, 20), (9, 9), 3))  # fmt: skip
    ids = [group.image_id for group in agd20k(root).read("seen")]
    assert {"cup-cup_1", "hold-cup-cup_1"} <= {*ids} and len(ids) == 6


def test_images_without_a_truth_are_passed_over_and_told(root: Path) -> None:
    (truth,) = [s.heat for s in samples_of(agd20k(root).read("seen")) if s.kinds == ("hold",)][:1]
    assert truth is not None
    truth.unlink()
    data = agd20k(root)
    assert len(samples_of(data.read("seen"))) == 5
    assert data.notes == ["1 images of seen have no truth and are passed over, as by the authors' code."]


def test_the_check_looks_at_heat_maps_and_counts(root: Path) -> None:
    tally = Tally(counting=True)
    groups = agd20k(root).read("seen", tally)
    verdicts = {v.question: v for v in check_samples("seen", groups, tally, None, False, [root])}
    assert {"boxes inside", "box format", "masks"}.isdisjoint(verdicts)
    assert verdicts["heat maps"].text == "6, of their images' sizes"
    assert {v.state for v in verdicts.values()} == {CheckState.ok}
    kinds = check_kinds("seen", groups, official_kinds(OFFICIAL, "seen"))
    assert kinds is not None and kinds.state is CheckState.fail and "4 hold instead of 297" in kinds.text
    # Of Unseen no counts are known, only which affordances there are.
    unseen = check_kinds("unseen", groups, dict.fromkeys(["hold", "cut_with"]))
    assert unseen is not None and unseen.state is CheckState.ok
    fewer = check_kinds("unseen", groups, dict.fromkeys(["hold", "cut_with", "wash"]))
    assert fewer is not None and fewer.text == "0 wash instead of some"
    heat = samples_of(groups)[0].heat
    assert heat is not None
    Image.fromarray(gaussian((9, 9), (4, 4), 2)).save(heat)
    verdict = {v.question: v for v in check_samples("seen", groups, tally, None, False, [root])}["heat maps"]
    assert verdict.state is CheckState.warn and verdict.text.startswith("1 of another size than their image")


@pytest.mark.skipif(not COUNTS.is_file(), reason=f"{COUNTS} is not there")
def test_the_published_counts_are_the_transcribed_ones() -> None:
    text = COUNTS.read_text().partition("# Test data (Seen)")[2]
    counts = ast.literal_eval(re.findall(r"\{.*?\}", text, re.DOTALL)[0])
    assert official_kinds(OFFICIAL, "seen") == counts and sum(counts.values()) == 1675
    assert official_counts(OFFICIAL) == {"seen": (1675, None, 1675)}
    unseen = official_kinds(OFFICIAL, "unseen")
    assert len(unseen) == 25 and {*unseen} < {*counts} and {*unseen.values()} == {None}


def test_a_reader_of_ones_own_may_have_heat_maps_but_no_mixture(root: Path) -> None:
    class Mixed(Agd20kDataSet):
        def read(self, split: str, tally: Tally | None = None) -> list[ImageGroup]:
            first, *rest = super().read(split, tally)
            box = {"box": (1.0, 1.0, 5.0, 5.0), "heat": None}
            return [replace(first, samples=tuple(replace(sample, **box) for sample in first.samples)), *rest]

    own = OwnDataSet.__new__(OwnDataSet)
    own._setting, own._own = "dataset.reader=mine:Reader", agd20k(root)
    assert len(own.read("seen")) == 4
    own._own = Mixed(own._own._config, root)
    with pytest.raises(DataError, match="some samples have a heat map as their truth and others have none"):
        own.read("seen")


def test_what_is_wrong_is_one_sentence(root: Path) -> None:
    with pytest.raises(DataError, match=r"has no split train with truths: heads must be found .* \(heads\.set\)"):
        agd20k(root).read("train")
    with pytest.raises(DataError, match=r"GT holds no AFFORDANCE/OBJECT/NAME\.png"):
        agd20k(root).read("unseen")
    with pytest.raises(DataError, match=r"the affordance cut_with, for which dataset\.affordances has no phrase"):
        agd20k(root, affordances={"hold": "hold the {object}"}).read("seen")
    with pytest.raises(ConfigError, match=r"dataset\.affordances\.hold=hold it has no {object}"):
        agd20k(root, affordances={"hold": "hold it"})
    with pytest.raises(ConfigError, match=r"dataset\.template=where has no {phrase}"):
        agd20k(root, template="where")
    place = agd20k(root).read("seen")[0].samples[0].heat
    assert place is not None
    for content, sentence in ((np.zeros((9, 9), np.uint8), "has one value everywhere"),
                              (np.ones((9, 9), np.uint16), "has pixels of more than 8 bits")):  # fmt: skip
        Image.fromarray(content).save(place)
        with pytest.raises(DataError, match=sentence):
            agd20k(root).read("seen")
        tally = Tally(counting=True)
        assert len(samples_of(agd20k(root).read("seen", tally))) == 5 and tally.rejected == 1
    shutil.rmtree(root / "Seen" / "testset" / "egocentric")
    with pytest.raises(DataError, match="holds no sample"):
        agd20k(root).read("seen")
