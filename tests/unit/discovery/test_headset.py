"""The localization heads, read back from a run or written by a user."""

import json
from pathlib import Path

import pytest

from locheads.discovery.headset import parse_heads, read_heads
from locheads.errors import StoreError
from locheads.types import HeadIndex


def test_heads_are_read_in_their_order_whatever_else_the_file_holds(tmp_path: Path) -> None:
    heads = [{"layer": 14, "head": 24, "frequency": 0.5}, {"layer": 2, "head": 7}]
    (tmp_path / "heads.json").write_text(json.dumps({"tau": 0.2, "heads": heads}))
    assert read_heads(tmp_path / "heads.json") == (HeadIndex(14, 24), HeadIndex(2, 7))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"heads": 3}', '{"heads": [{"layer": 1}]}', '{"heads": ["L1H2"]}']
)
def test_any_other_file_is_one_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "heads.json").write_text(content)
    with pytest.raises(StoreError, match=r"heads\.json is no heads\.json of a run"):
        read_heads(tmp_path / "heads.json")


def test_a_file_that_is_not_there_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no heads"):
        read_heads(tmp_path / "heads.json")


def test_names_of_heads_are_parsed_as_they_are_printed() -> None:
    heads = (HeadIndex(14, 24), HeadIndex(0, 0))
    assert parse_heads(str(head) for head in heads) == heads
    assert parse_heads([]) == ()


@pytest.mark.parametrize("name", ["", "14,24", "l14h24", "L14", "L14H24 ", "L-1H2", "L1H2H3"])
def test_a_name_that_is_no_head_is_refused(name: str) -> None:
    with pytest.raises(StoreError, match="write layer and head"):
        parse_heads(["L1H1", name])
