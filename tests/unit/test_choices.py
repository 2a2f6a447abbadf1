"""A choice without code behind it runs as no other; a name that is no choice is refused with those that are."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from locheads.audit.choice_grid import _several
from locheads.audit.config import AuditConfig
from locheads.config import Config
from locheads.data.box_text import frame_in, placed_point, read_answer
from locheads.data.config import AnswerFormat, BoxFormat, Frame, PointFormat, PredictionsConfig
from locheads.data.coordinate_frames import in_pixels, whole_image
from locheads.data.prediction_files import frame_of
from locheads.data.reasonseg import _asked_for
from locheads.errors import ConfigError
from locheads.geometry import Preprocess, square_geometry
from locheads.grounding.contrast import contrast_asked, references
from locheads.models.adapters.family import FamilyAdapter
from locheads.models.adapters.square_view import LlavaAdapter
from locheads.models.attend import shares
from locheads.models.config import ModelConfig, Query
from locheads.models.engine import EngineConfig, Quantization
from locheads.models.placement import check_placement
from locheads.models.prompts import PromptText, tokenise
from locheads.pipeline.stages import _run
from locheads.segmenters.config import SegmenterConfig
from locheads.segmenters.sam import SamHf
from locheads.segmenters.segmenter import Prompt
from locheads.tracking.wandb_run import tracked
from locheads.types import ImageGroup


class Later(StrEnum):
    """A member that was added without its code."""

    new = "new"


GEOMETRY = square_geometry(120, 90, 168, 12, Preprocess.pad)


def with_new(config: Any, *path: str) -> Any:
    """The settings with a new choice, past whatever checks them."""
    *groups, name = path
    target = config
    for group in groups:
        target = getattr(target, group)
    object.__setattr__(target, name, Later.new)
    return config


def part(kind: Any, **attributes: Any) -> Any:
    """An object of this class with these attributes alone."""
    made = kind.__new__(kind)
    vars(made).update(attributes)
    return made


def enter(manager: Any) -> None:
    with manager:
        pass


IMAGES = SimpleNamespace(image_processor=SimpleNamespace())
DISPATCHES: dict[str, Callable[[], Any]] = {
    "FamilyAdapter.view": lambda: part(FamilyAdapter, preprocess=Later.new, processor=IMAGES).view(None),
    "LlavaAdapter._process": lambda: part(LlavaAdapter, _how=Later.new, _side=8, processor=IMAGES)._process(None),
    "attend": lambda: shares(SimpleNamespace(adapter=SimpleNamespace(sharing=Later.new)), None),  # type: ignore[arg-type]
    "placement": lambda: check_placement(ModelConfig(), with_new(EngineConfig(device="cpu"), "attention")),
    "segmenter.prompt": lambda: part(SamHf, _config=with_new(SegmenterConfig(), "prompt"))._boxes(
        [Prompt((0, 0, 1, 1), None, None)]  # type: ignore[arg-type]
    ),
    "query length": lambda: _asked_for(Later.new, True),  # type: ignore[arg-type]
    "frame of a file": lambda: frame_of(with_new(PredictionsConfig(), "frame"), 12, 9),
    "stage": lambda: _run(SimpleNamespace(config=with_new(Config(), "stage")), None),
    "tracker": lambda: enter(tracked(with_new(Config(), "tracker", "kind"), {}, Path())),
    "contrast": lambda: references(ImageGroup("7", Path(), 9, 9, ()), Later.new),  # type: ignore[arg-type]
    "contrast of a call": lambda: contrast_asked(np.zeros((1, 1, 1, 1), np.float32), 1, Later.new),  # type: ignore[arg-type]
    "audit": lambda: _several([], with_new(AuditConfig(), "mode")),
}


@pytest.mark.parametrize("name", DISPATCHES)
def test_a_choice_without_code_behind_it_runs_as_no_other(name: str) -> None:
    with pytest.raises((AssertionError, TypeCheckError), match="new"):
        DISPATCHES[name]()


TAKES_NAMES: dict[str, tuple[type[StrEnum], Callable[[Any], Any]]] = {
    "square_geometry": (Preprocess, lambda name: square_geometry(120, 90, 168, 12, name)),
    "tokenise": (Query, lambda name: tokenise(Words(), PromptText("a cup", 2, 5), name, False)),
    "frame_in": (Frame, lambda name: frame_in(GEOMETRY, name)),
    "in_pixels": (BoxFormat, lambda name: in_pixels([1, 2, 3, 4], name, whole_image(120, 90))),
    "placed_point": (PointFormat, lambda name: placed_point([0.1, 0.2], name, whole_image(120, 90))),
    "read_answer": (AnswerFormat, lambda name: read_answer("[1, 2, 30, 40]", name, whole_image(120, 90), 120, 90)),
}


class Words:
    """A tokenizer of "a cup"."""

    is_fast = True

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        return {"input_ids": [5, 6, 7], "offset_mapping": [(0, 1), (2, 4), (4, 5)]}


@pytest.mark.parametrize("name", TAKES_NAMES)
def test_a_name_is_its_member_and_an_unknown_one_is_refused(name: str) -> None:
    choices, call = TAKES_NAMES[name]
    members = [member for member in choices if member not in (Preprocess.native, Query.answer_word)]
    assert [call(member.value) for member in members] == [call(member) for member in members]
    assert len({repr(call(member)) for member in members}) > 1
    for unknown in ("nonsense", "", Later.new):
        with pytest.raises(ConfigError, match=f"There is no {choices.__name__} '.*': use one of .*{members[0].value}"):
            call(unknown)


def test_every_format_of_boxes_has_an_order_and_a_unit() -> None:
    frame = whole_image(120, 90)
    assert all(len(in_pixels([0.1, 0.2, 0.3, 0.4], form, frame)) == 4 for form in BoxFormat)


def test_weights_in_fewer_bits_are_those_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from locheads.models import placement

    monkeypatch.setattr(placement, "check_placement", lambda *_: torch.device("cuda"))
    monkeypatch.setattr("transformers.BitsAndBytesConfig", lambda **options: options)
    for bits in ("8bit", "4bit"):
        engine = EngineConfig(quantization=Quantization[bits])
        found = placement.placement(ModelConfig(), engine)[1]["quantization_config"]
        assert found[f"load_in_{bits}"] is True
        assert len(found) == 2
    with pytest.raises(KeyError, match="new"):
        placement.placement(ModelConfig(), with_new(EngineConfig(), "quantization"))
