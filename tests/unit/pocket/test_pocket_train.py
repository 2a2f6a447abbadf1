import csv
from dataclasses import replace

import pytest
import torch

from locheads.pocket import curriculum, train
from locheads.pocket.answers import accuracies, first_words
from locheads.pocket.batches import Batch, pack
from locheads.pocket.curriculum import LEVELS, Progress
from locheads.pocket.language import Exchange
from locheads.pocket.model import build_model
from locheads.pocket.train import Trainer, parse_arguments, run


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
    common = ["--out", str(out), "--scenes", "2", "--steps", "6", "--decay", "3", "--stop-at", str(step)]
    trainer = Trainer(parse_arguments([*common, *more]))
    if "--resume" in more:
        trainer.restore()
    run(trainer)
    return trainer


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = train_to(tmp_path / "whole", 4)
    train_to(tmp_path / "parts", 2)
    resumed = train_to(tmp_path / "parts", 4, "--resume")
    assert resumed.progress.step == whole.progress.step == 4
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    losses = [
        [row["loss"] for row in csv.DictReader((tmp_path / name / "curves.csv").open())] for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_the_loss_falls_on_repeated_data(tmp_path):
    trainer = Trainer(parse_arguments(["--out", str(tmp_path), "--scenes", "2"]))
    losses = []
    for _ in range(12):
        trainer.progress.step = 150
        losses.append(trainer.step()["loss"])
    assert losses[-1] < 0.7 * losses[0]


def test_the_learning_rate_warms_up_and_falls_to_zero(tmp_path):
    trainer = Trainer(parse_arguments(["--out", str(tmp_path), "--steps", "1000", "--decay", "100", "--lr", "1"]))
    assert [trainer._set_rate(step) for step in (0, 199, 899, 950, 999)] == pytest.approx([0.005, 1, 1, 0.5, 0.01])


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
        Exchange("the red circle .", "pink small red circle", "attribute", 0),
        Exchange("how many objects are there ?", "three", "question", None),
    ]
    batch = Batch(torch.zeros(1), *pack([said]), [said])
    assert first_words(batch).tolist() == [True, False, False, False, False, True, False]
    right = torch.tensor([True, True, False, True, True, True, True])
    found = accuracies(right, batch)
    shown = [found[name] for name in ("attribute", "question", "first_word", "other_words")]
    assert shown == pytest.approx([0, 1, 1, 0.8])
