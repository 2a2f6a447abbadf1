"""A user's own segmenter, in a module outside the package, named by its dotted path."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sam_parts import make_image

from locheads.errors import ConfigError, ModelError
from locheads.evaluation.segmented import segment_rows
from locheads.models.engine import EngineConfig
from locheads.segmenters.__main__ import main
from locheads.segmenters.config import SegmenterConfig
from locheads.segmenters.load_segmenter import check_segmenter, load_segmenter, segmenter_identity
from locheads.segmenters.segmenter import Prompt
from locheads.types import ImageGroup

OWN = """
import numpy as np
from locheads.segmenters.segmenter import Segmentation

class Ellipse:
    \"\"\"The ellipse that touches the box's sides.\"\"\"

    def __init__(self, config, device):
        self.checkpoint = config.checkpoint

    def segment(self, image, prompts):
        return [Segmentation(self._one(image, *prompt.box)) for prompt in prompts]

    def _one(self, image, x0, y0, x1, y1):
        y, x = np.mgrid[: image.height, : image.width] + 0.5
        return ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 < 1

class Needy(Ellipse):
    def __init__(self, config, device):
        raise ValueError("no weights")

class Logits(Ellipse):
    def _one(self, image, *box):
        return super()._one(image, *box) - 0.5

class Small(Ellipse):
    def _one(self, image, *box):
        return super()._one(image, *box)[::2]

class Silent(Ellipse):
    def segment(self, image, prompts):
        return []

class NotOne: ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_segmenter_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def rows_of(module: str, name: str, tmp_path: Path) -> list[dict[str, Any]]:
    image = make_image()
    image.save(tmp_path / "a.png")
    config = SegmenterConfig(kind=f"{module}:{name}")
    segmenter = load_segmenter(config, EngineConfig(device="cpu"))
    assert segmenter is not None
    row = {"x0": 10.0, "y0": 10.0, "x1": 60.0, "y1": 50.0, "peak_x": None, "mask_counts": None, "error": None}
    row |= {"mask_height": image.height, "mask_width": image.width}
    return segment_rows([row], ImageGroup("7", tmp_path / "a.png", image.width, image.height, ()), segmenter, config)


def test_it_is_made_asked_and_its_masks_are_taken(module: str, tmp_path: Path) -> None:
    config = SegmenterConfig(kind=f"{module}:Ellipse")
    check_segmenter(config)
    segmenter = load_segmenter(config, EngineConfig(device="cpu"))
    assert segmenter is not None
    (found,) = segmenter.segment(make_image(), [Prompt((10.0, 10.0, 60.0, 50.0))])
    assert found.mask.sum() == pytest.approx(np.pi * 25 * 20, rel=0.01)
    assert rows_of(module, "Ellipse", tmp_path)[0]["mask_counts"] is not None
    # The command that checks a segmenter takes it, too: an ellipse is what it looks for.
    assert main([f"{module}:Ellipse", "--device", "cpu"]) == 0


def test_its_masks_are_identified_by_its_path_and_the_file_it_stands_in(module: str, tmp_path: Path) -> None:
    config = SegmenterConfig(kind=f"{module}:Ellipse")
    first = segmenter_identity(config)
    assert first["kind"] == config.kind and segmenter_identity(config) == first
    assert segmenter_identity(SegmenterConfig(kind=f"{module}:Silent")) != first
    (tmp_path / f"{module}.py").write_text(OWN + "# another")
    assert segmenter_identity(config) != first


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Needy", r"Needy cannot be made \(no weights\): it is called as Class\(config, device\)"),
        ("NotOne", "neither a subclass nor an instance of .*Segmenter"),
        ("Absent", "holds no Absent"),
    ],
)
def test_what_is_no_segmenter_is_one_sentence(module: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_segmenter(SegmenterConfig(kind=f"{module}:{name}"), EngineConfig(device="cpu"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Logits", "a mask of float64"),
        ("Small", r"a mask of bool \[55, 150\]"),
        ("Silent", "gave 0 masks to 1 prompts"),
    ],
)
def test_masks_that_would_give_a_wrong_figure_are_refused(module: str, name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        rows_of(module, name, tmp_path)


def test_a_word_that_is_neither_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"segmenter\.kind=sam3 is unknown: use one of none, box, "):
        SegmenterConfig(kind="sam3")
