"""Answers are kept line by line; a damaged line costs that answer alone."""

from pathlib import Path

import pytest

from locheads.errors import StoreError
from locheads.geometry import stretched
from locheads.store.answer_store import AnswerStore, StoredAnswer
from locheads.types import Answer

GEOMETRY = stretched(200, 100, 4, 8)


def answer(sample_id: str, text: str = "[1, 2, 3, 4]", image: str | None = "abc") -> StoredAnswer:
    return StoredAnswer(sample_id, image, Answer((7, 8), (text[:3], text[3:]), ended=False), GEOMETRY)


def test_answers_come_back_for_the_same_image_only(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, "0" * 64)
    store.add([answer("1", 'a "quoted"\nline \N{SNOWMAN}'), answer("2")])
    again = AnswerStore(tmp_path, "0" * 64)
    assert again.get("1", "abc") == store.get("1", "abc") == answer("1", 'a "quoted"\nline \N{SNOWMAN}')
    assert again.get("1", "other image") is None
    assert AnswerStore(tmp_path, "1" * 64).get("1", "abc") is None


def test_a_line_that_was_cut_off_is_lost_alone(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, "0" * 64)
    store.add([answer("1"), answer("2")])
    store.path.write_bytes(store.path.read_bytes()[:-20])
    damaged = AnswerStore(tmp_path, "0" * 64)
    assert damaged.get("1", "abc") == answer("1") and damaged.get("2", "abc") is None
    damaged.add([answer("2"), answer("3")])
    whole = AnswerStore(tmp_path, "0" * 64)
    assert [whole.get(i, "abc") for i in "123"] == [answer(i) for i in "123"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("in the way")
    with pytest.raises(StoreError, match="choose another folder"):
        AnswerStore(tmp_path, "0" * 64).add([answer("1")])
