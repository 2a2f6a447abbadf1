"""The sentence on cost follows from the two times that were measured."""

from types import SimpleNamespace

import pytest
import torch

from locheads.models.config import PromptConfig
from locheads.models.engine import EngineConfig
from locheads.pipeline import measured_cost


def test_what_refcoco_takes_follows_from_the_times_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {7: 0.7, 1: 0.3}
    monkeypatch.setattr(measured_cost, "_seconds", lambda lvlm, prompt, engine, expressions: seconds[expressions])
    lvlm = SimpleNamespace(device=torch.device("cpu"))
    (finding,) = measured_cost.check_cost(lvlm, PromptConfig(), EngineConfig())  # type: ignore[arg-type]
    assert finding.text.startswith("100 ms per expression, 7 to an image, and 300 ms of one alone; ")
    assert finding.text.endswith("val (10,834) 18 min 03 s, discovery (5 x 1,000) 25 min 00 s")
