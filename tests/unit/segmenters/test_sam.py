"""SAM: Meta's weights under transformers' names, and the same masks by both packages."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sam_parts import SIDE, make_image, meta_package, random_vit_b, tiny_sam, tiny_sam2

from locheads.errors import ConfigError, LocHeadsError, ModelError
from locheads.models.engine import EngineConfig
from locheads.segmenters import sam
from locheads.segmenters.__main__ import main
from locheads.segmenters.config import MaskChoice, PromptKind, SamSize, SegmenterConfig, SegmenterKind
from locheads.segmenters.load_segmenter import check_segmenter, load_segmenter
from locheads.segmenters.sam_checkpoint import read_meta, sam_model
from locheads.segmenters.segmenter import Prompt

CPU = EngineConfig(device="cpu", threads=1)
PROMPTS = [
    Prompt((40.3, 20.2, 95.7, 80.9), (66.0, 55.0), np.pad(np.ones((50, 50), bool), ((30, 30), (40, 60)))),
    Prompt((0.0, 0.0, 150.0, 110.0), (10.0, 100.0), np.ones((110, 150), bool)),
    Prompt((100.0, 10.0, 140.5, 30.25), (120.0, 20.0), np.zeros((110, 150), bool)),
]
POINTED = [
    replace(PROMPTS[0], points=((50.0, 40.0), (70.0, 60.0)), negatives=((5.0, 5.0), (140.0, 100.0))),
    replace(PROMPTS[1], points=((20.0, 90.0),), negatives=((120.0, 10.0),)),
    replace(PROMPTS[2], points=((110.0, 15.0), (130.0, 20.0))),
]
"""Not all with equally many points."""
ASKED = {"prompt": PromptKind.points, "multimask": True, "choice": MaskChoice.last, "rounds": 2}


def named_weights(skip: str = "", extra: str = "") -> dict[str, torch.Tensor]:
    """Meta's vit_b by its names and shapes, as its package printed them; zeros."""
    with (Path(__file__).parent / "meta_vit_b.csv").open() as file:
        rows = {row["name"]: [int(n) for n in row["shape"].split("x")] for row in csv.DictReader(file)}
    weights = {name: torch.zeros(1).expand(shape) for name, shape in rows.items() if name != skip}
    return weights | ({extra: torch.zeros(1)} if extra else {})


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_every_weight_of_meta_has_its_place(tmp_path: Path) -> None:
    weights = named_weights()
    assert len(weights) == 314
    model = sam_model(saved(tmp_path / "sam.pth", weights), SamSize.vit_b)
    # One tensor more: the positions' embedding is listed twice.
    assert len(model.state_dict()) == 315
    assert not any(p.is_meta for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"skip": "mask_decoder.iou_token.weight"}, "lacks 1 weights, such as mask_decoder.iou_token.weight"),
        ({"extra": "image_encoder.head.weight"}, "has, beyond what SAM needs, 1 weights, such as vision_encoder.head"),
    ],
)
def test_a_weight_too_few_or_too_many_is_named(change: dict, sentence: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "sam.pth", named_weights(**change))
    with pytest.raises(ModelError, match=sentence):
        sam_model(path, SamSize.vit_b)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the checkpoint ran code",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (named_weights(), "holds vit_b, but segmenter.size=vit_h"),
        ({"fc.weight": torch.zeros(3)}, "is no checkpoint of SAM: it has no image_encoder.pos_embed"),
        ([1, 2, 3], "holds no plain weights"),
        ({"model": {"a": torch.zeros(1)}}, "holds no plain weights"),
        (_Bomb(), "cannot be read as weights"),
        (b"not a checkpoint", "cannot be read as weights"),
        (None, "There is no "),
    ],
    ids=["size", "another model", "a list", "nested", "code", "damaged", "absent"],
)
def test_a_wrong_checkpoint_is_one_sentence(
    content: object, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "sam.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        saved(path, content)
    with pytest.raises(ModelError, match=sentence) as caught:
        read_meta(path, SamSize.vit_h)
    assert "\n" not in str(caught.value)
    assert "ran code" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", [SegmenterKind.sam_hf, SegmenterKind.sam2])
def test_a_folder_of_another_model_is_refused(kind: SegmenterKind, tmp_path: Path) -> None:
    other = (tiny_sam2 if kind is SegmenterKind.sam_hf else tiny_sam)(tmp_path / "other")
    config = SegmenterConfig(kind=kind, checkpoint=str(other))
    with pytest.raises(ModelError, match=f"is a 'sam2?' model, but segmenter={kind.value} reads"):
        check_segmenter(config)
    with pytest.raises(ModelError):
        load_segmenter(config, CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="Cannot load the segmenter"):
        check_segmenter(replace(config, checkpoint=str(tmp_path / "empty")))


def test_a_weight_of_another_shape_is_named_before_anything_loads(tmp_path: Path) -> None:
    name = "mask_decoder.iou_token.weight"
    path = saved(tmp_path / "sam.pth", named_weights() | {name: torch.zeros(1, 128)})
    config = SegmenterConfig(kind=SegmenterKind.sam_hf, checkpoint=str(path), size=SamSize.vit_b)
    with pytest.raises(ModelError, match=rf"{name} has the shape \[1, 128\], not \[1, 256\]"):
        check_segmenter(config)
    check_segmenter(replace(config, checkpoint=str(saved(tmp_path / "good.pth", named_weights()))))
    with pytest.raises(ModelError, match=r"holds vit_b, but segmenter\.size=vit_l"):
        check_segmenter(replace(config, size=SamSize.vit_l))


# The full size of 1,024 pixels takes a minute and more; it runs where torchvision itself is installed.
def sides() -> list[int]:
    import importlib.util

    return [256, 1024] if importlib.util.find_spec("torchvision") else [256]


@pytest.mark.parametrize("side", sides())
def test_both_packages_give_the_same_masks(side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = meta_package()
    path = saved(tmp_path / "sam_vit_b.pth", random_vit_b(package, side).state_dict())
    monkeypatch.setattr(sam, "meta_package", lambda: package)
    monkeypatch.setitem(package.sam_model_registry, "vit_b", lambda checkpoint: random_vit_b(package, side))
    image, masks = make_image(), {}
    for kind in PromptKind:
        config = SegmenterConfig(checkpoint=str(path), size=SamSize.vit_b, prompt=kind, batch=2)
        found = [
            load_segmenter(replace(config, kind=name), CPU).segment(image, PROMPTS)  # type: ignore[union-attr]
            for name in (SegmenterKind.sam_hf, SegmenterKind.segment_anything)
        ]
        for ours, theirs in zip(*found, strict=True):
            assert ours.mask.shape == (110, 150)
            assert (ours.mask & theirs.mask).sum() / (ours.mask | theirs.mask).sum() >= 0.99
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        masks[kind] = [answer.mask for answer in found[0]]
    asked = SegmenterConfig(checkpoint=str(path), size=SamSize.vit_b, batch=2, **ASKED)  # type: ignore[arg-type]
    ours, theirs = (
        load_segmenter(replace(asked, kind=name), CPU).segment(image, POINTED)  # type: ignore[union-attr]
        for name in (SegmenterKind.sam_hf, SegmenterKind.segment_anything)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one.mask & other.mask).sum() / (one.mask | other.mask).sum() >= 0.99
        assert one.score == pytest.approx(other.score, abs=1e-4)
    masks["asked"] = [answer.mask for answer in ours]
    # The negative control: other prompts, other masks.
    pairs = [(masks[a][0], masks[b][0]) for a in masks for b in masks if a < b]
    pairs += [(masks[PromptKind.box][0], masks[PromptKind.box][1])]
    assert all((a & b).sum() / (a | b).sum() < 0.99 for a, b in pairs)


@pytest.mark.parametrize("kind", [SegmenterKind.sam_hf, SegmenterKind.sam2])
@pytest.mark.parametrize("prompt", list(PromptKind))
@pytest.mark.parametrize("multimask", [False, True])
def test_batches_change_nothing_and_the_image_is_embedded_once(
    kind: SegmenterKind, prompt: PromptKind, multimask: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = (tiny_sam if kind is SegmenterKind.sam_hf else tiny_sam2)(tmp_path / "sam")
    config = SegmenterConfig(kind=kind, checkpoint=str(folder), prompt=prompt, multimask=multimask, batch=2)
    segmenter = load_segmenter(config, CPU)
    assert isinstance(segmenter, sam.Sam)
    embedded, real = [], segmenter._embed
    monkeypatch.setattr(segmenter, "_embed", lambda image: embedded.append(image) or real(image))
    together = segmenter.segment(make_image(), PROMPTS)
    assert len(embedded) == 1
    alone = [segmenter.segment(make_image(), [prompt_])[0] for prompt_ in PROMPTS]
    for one, other in zip(together, alone, strict=True):
        assert (one.mask == other.mask).mean() > 0.999
        assert one.score == pytest.approx(other.score, abs=1e-5)
    assert segmenter.segment(make_image(), []) == []


@pytest.mark.parametrize("kind", [SegmenterKind.sam_hf, SegmenterKind.sam2])
def test_prompts_of_different_numbers_of_points_are_answered_as_each_by_itself(
    kind: SegmenterKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = (tiny_sam if kind is SegmenterKind.sam_hf else tiny_sam2)(tmp_path / "sam")
    config = SegmenterConfig(kind=kind, checkpoint=str(folder), batch=2, **ASKED)  # type: ignore[arg-type]
    segmenter = load_segmenter(config, CPU)
    assert isinstance(segmenter, sam.OfTransformers)
    together = segmenter.segment(make_image(), POINTED)
    for one, prompt in zip(together, POINTED, strict=True):
        (other,) = segmenter.segment(make_image(), [prompt])
        assert (one.mask == other.mask).mean() > 0.999
        assert one.score == pytest.approx(other.score, abs=1e-5)
    # What the model is given says which points lie beside the object: without that all would be on it.
    given, real = [], segmenter._predict
    monkeypatch.setattr(segmenter, "_predict", lambda *inputs: given.append(inputs[3]) or real(*inputs))
    segmenter.segment(make_image(), POINTED)
    assert sorted(row for labels in given[: len(given) // 2] for row in labels.tolist()) == [
        [1.0, 0.0], [1.0, 1.0], [1.0, 1.0, 0.0, 0.0],
    ]  # fmt: skip


class Planned(sam.Sam):
    """Answers every prompt with three masks: its box's left third, its middle third, and the image's upper half."""

    def __init__(self, **changes: object) -> None:
        super().__init__(SegmenterConfig(**{"multimask": True} | changes), torch.device("cpu"))  # type: ignore[arg-type]
        self.embedded, self.asked = 0, []

    def _embed(self, image: object) -> None:
        self.embedded += 1

    def _decode(self, embedding: object, image: object, prompts: list[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append((self._boxes(prompts), *self._points(prompts)))
        logits = -torch.ones(len(prompts), 3, 110, 150)
        for each, prompt in zip(logits, prompts, strict=True):
            x0, y0, x1, y1 = (round(value) for value in prompt.box)
            third = (x1 - x0) // 3
            each[0, y0:y1, x0 : x0 + third] = each[1, y0:y1, x0 + third : x0 + 2 * third] = each[2, :55] = 1
        return logits, torch.tensor([[0.2, 0.9, 0.5]] * len(prompts))

    def _upscale(self, logits: torch.Tensor, image: object) -> torch.Tensor:
        return logits


BOX = (30.0, 20.0, 90.0, 80.0)


def test_which_of_three_masks_is_taken_has_a_name() -> None:
    guess = np.zeros((110, 150), bool)
    guess[20:80, 30:45] = True
    prompt, image = Prompt(BOX, None, guess), make_image()
    found = {choice: Planned(choice=choice).segment(image, [prompt])[0] for choice in MaskChoice}
    assert {choice: answer.score for choice, answer in found.items()} == pytest.approx(
        {MaskChoice.score: 0.9, MaskChoice.overlap: 0.2, MaskChoice.last: 0.5}
    )
    assert found[MaskChoice.overlap].mask.sum() == 60 * 20 and found[MaskChoice.last].mask.sum() == 55 * 150
    with pytest.raises(ValueError, match=r"no pseudo-mask, which segmenter\.choice=overlap needs"):
        Planned(choice="overlap").segment(image, [Prompt(BOX)])


def test_the_second_round_asks_with_the_box_of_the_first_rounds_mask() -> None:
    fake = Planned(prompt=PromptKind.points, rounds=2)
    points = ((40.0, 30.0), (50.0, 60.0))
    answers = fake.segment(make_image(), [Prompt(BOX, points=points, negatives=((1.0, 1.0),)), Prompt((0, 0, 2, 2))])
    assert fake.embedded == 1
    # The batches: one point, three points; then those whose mask is not empty. A box 2 pixels wide has no third.
    (first, *_), (_, three, labels), (again, same, _) = fake.asked
    assert first is None and labels.tolist() == [[1.0, 1.0, 0.0]]
    assert three.tolist() == same.tolist() == [[*map(list, points), [1.0, 1.0]]]
    assert again.tolist() == [[48.0, 14.0, 72.0, 86.0]]  # 50 to 70 and 20 to 80, 10 % more on each side
    assert answers[0].mask.sum() == 8 * 72 and not answers[1].mask.any()


def test_the_input_is_metas_to_the_pixel(tmp_path: Path) -> None:
    """Long side to 1,024 (here 64), pixel mean and deviation, zeros right and below."""
    from PIL import Image

    segmenter = load_segmenter(
        SegmenterConfig(kind=SegmenterKind.sam_hf, checkpoint=str(tiny_sam(tmp_path / "sam"))), CPU
    )
    assert isinstance(segmenter, sam.SamHf)
    image = make_image(150, 110)
    found = segmenter._processor(image, return_tensors="pt")["pixel_values"][0].numpy()
    height = int(110 * SIDE / 150 + 0.5)
    small = np.asarray(image.resize((SIDE, height), Image.Resampling.BILINEAR), dtype=np.float64)
    expected = np.zeros((3, SIDE, SIDE))
    scaled = (small - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    expected[:, :height] = scaled.transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_metas_package_without_torchvision_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "segment_anything"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ConfigError, match="needs the packages segment-anything and torchvision") as caught:
        sam.meta_package()
    assert "segmenter=sam_hf, which reads the same checkpoints" in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), OSError("no symbol")])
def test_a_broken_torchvision_is_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def broken(name: str, *rest: object) -> object:
        if name == "segment_anything":
            raise error
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(LocHeadsError, match=str(error)):
        sam.meta_package()


def test_the_check_of_sam_without_weights_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sam_hf"]) == 1
    assert capsys.readouterr().err == (
        "error: segmenter=sam_hf needs segmenter.checkpoint: the path of its weights, or a hub id.\n"
    )
