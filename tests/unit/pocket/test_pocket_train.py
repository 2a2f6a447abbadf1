import csv
from dataclasses import replace

import pytest
import torch

from locheads.pocket.language import Exchange
from locheads.pocket.pocket_model import build_model
from locheads.pocket.training import batches as curriculum
from locheads.pocket.training import train
from locheads.pocket.training.batches import LEVELS, Batch, Progress, pack
from locheads.pocket.training.probe import accuracies, first_words
from locheads.pocket.training.train import Trainer, parse_arguments, run


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few patches, two levels that change quickly, a line of the log per step."""
    levels = tuple(
        replace(level, keep=(24,), full=0.0, leave_at=2.0, longest=longest)
        for level, longest in zip(LEVELS[:2], (3, float("inf")), strict=True)
    )
    monkeypatch.setattr(curriculum, "LEVELS", levels)
    monkeypatch.setattr(train, "LEVELS", levels)
    monkeypatch.setattr(train, "_WINDOW", 1)
    monkeypatch.setattr(train, "build_model", lambda seed: build_model(seed, layers=2))


def train_to(out, step, *more):
    common = ["--out", str(out), "--scenes", "2", "--words", "2", "--steps", "6", "--stop-at", str(step)]
    trainer = Trainer(parse_arguments([*common, *more]))
    if "--resume" in more:
        trainer.restore()
    run(trainer)
    return trainer


@pytest.mark.parametrize("part", [1, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, part):
    whole = train_to(tmp_path / "whole", 5)
    train_to(tmp_path / "parts", part)
    resumed = train_to(tmp_path / "parts", 5, "--resume")
    assert (resumed.progress.words, resumed.progress.step) == (whole.progress.words, whole.progress.step) == (2, 3)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    losses = [
        [row["word_loss"] or row["loss"] for row in csv.DictReader((tmp_path / name / "curves.csv").open())]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 5
    assert (tmp_path / "parts" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_loss_falls_on_repeated_data(tmp_path):
    trainer = Trainer(parse_arguments(["--out", str(tmp_path), "--scenes", "2", "--words", "0"]))
    losses = []
    for _ in range(12):
        trainer.progress.step = 150
        losses.append(trainer.step()["loss"])
    assert losses[-1] < 0.7 * losses[0]


def test_the_word_loss_falls_on_repeated_data(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "WORD_SCENES", 4)
    trainer = Trainer(parse_arguments(["--out", str(tmp_path), "--words", "400"]))
    losses = []
    for _ in range(10):
        trainer.progress.words = 100
        losses.append(trainer.step()["word_loss"])
    assert losses[-1] < 0.7 * losses[0]


def test_the_learning_rate_warms_up_and_falls_to_zero(tmp_path):
    trainer = Trainer(parse_arguments(["--out", str(tmp_path), "--lr", "1"]))
    shares = (0, 0.024, 0.049, 1 - train.DECAY, 1 - train.DECAY / 2, 1)
    assert [trainer._set_rate(share) for share in shares] == pytest.approx([0.02, 0.5, 1, 1, 0.5, 0])


def test_a_level_is_left_when_the_running_accuracy_says_so(monkeypatch):
    monkeypatch.setattr(curriculum, "LEVELS", LEVELS)
    progress = Progress()
    for _ in range(99):
        progress.update(1.0)
    assert progress.level == 0
    progress.update(1.0)
    assert (progress.level, progress.accuracy, progress.level_start) == (1, 0.0, 100)


def test_a_level_is_left_after_its_longest_time_and_the_last_one_never(monkeypatch):
    monkeypatch.setattr(curriculum, "LEVELS", LEVELS)
    progress = Progress()
    for _ in range(int(sum(level.longest for level in LEVELS[:-1])) + 50):
        progress.update(0.0)
    assert (progress.level, progress.step - progress.level_start) == (len(LEVELS) - 1, 50)


def test_accuracies_count_whole_answers_by_kind():
    said = [
        Exchange("the red circle .", "pink plain red circle", "attribute", 0),
        Exchange("what shape is the red object ?", "circle", "question", 0),
    ]
    batch = Batch(torch.zeros(1), *pack([said]), [said])
    assert first_words(batch).tolist() == [True, False, False, False, False, True, False]
    right = torch.tensor([True, True, False, True, True, True, True])
    found = accuracies(right, batch)
    shown = [found[name] for name in ("attribute", "question", "first_word", "other_words")]
    assert shown == pytest.approx([0, 1, 1, 0.8])
    assert "position" not in found
