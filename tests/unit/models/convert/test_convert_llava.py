"""The LLaVA format: what is converted equals the original's own forward pass, and only with the right key map."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import written
from compared import Converted, check_equal, check_swaps

CASES: dict[str, Callable[[], written.Original]] = {
    "llava v1": lambda: written.llava("linear", wrapped=True, pad=False),
    "llava v1.5": written.llava,
    "sharegpt4v": lambda: written.llava(architectures=["Share4VLlamaForCausalLM"], seed=3),
    "yi-vl": written.yi_vl,
    "internvl-chat 6b": written.internvl_chat,
}
IDLE = ("lm_head", "post_layernorm", "vision_tower.encoder.layers.2.", "vision_tower.encoder.layer.2.",
        "vision_tower.encoder.layer.3.", "vision_tower.encoder.layer.4.")  # fmt: skip
"""Layers of the vision tower after the one that is looked at, and the head, which predicts words."""
cases = pytest.mark.parametrize("name", list(CASES))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Converted]:
    return cache(lambda name: Converted(CASES[name](), tmp_path_factory.mktemp("convert")))


@cases
def test_hidden_states_and_rows_are_the_originals(name: str, converted: Any) -> None:
    check_equal(converted(name))


@cases
def test_any_two_swapped_weights_are_found_out(name: str, converted: Any) -> None:
    check_swaps(converted(name), IDLE)
    check_equal(converted(name))  # all is back in its place
