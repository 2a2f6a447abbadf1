"""Tokenizers: the same tokens as sentencepiece gives the text before and after the image."""

import json
from pathlib import Path

import pieces
import pytest

from locheads.errors import ModelError
from locheads.models.convert.original_tokenizers import read_tokenizer

TEXTS = [
    "where is the red circle", " A  cup\nUSER: image", "###Human: A.", "tasse à café ☕", "rred ASSISTANTS", " ", "\n",
    "a'b where,where:",
]  # fmt: skip


def folder(tmp_path: Path, dummy_prefix: bool = True, **settings: object) -> Path:
    pieces.write(tmp_path / "tokenizer.model", pieces.vocabulary(), dummy_prefix)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>", **settings}))
    return tmp_path


@pytest.mark.parametrize("dummy_prefix", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_sentencepieces(text: str, dummy_prefix: bool, tmp_path: Path) -> None:
    words = read_tokenizer(folder(tmp_path, dummy_prefix, add_bos_token=False), fast=False)
    expected = pieces.tokenise(text, pieces.vocabulary(), dummy_prefix)
    assert words(text)["input_ids"] == expected
    assert words.decode(expected).strip() == text.strip()


def test_a_model_that_removes_spaces(tmp_path: Path) -> None:
    source, known = folder(tmp_path, add_bos_token=False), pieces.vocabulary()
    pieces.write(source / "tokenizer.model", known, thrifty=True)
    words = read_tokenizer(source, fast=False)
    for text, kept in (("  where   is ", "where is"), ("\n  cup", "\n cup")):
        assert words(text)["input_ids"] == pieces.tokenise(kept, known)


@pytest.mark.parametrize("before", ["A USER: ", "", "where is"])
@pytest.mark.parametrize("after", ["\nwhere is the cup. ASSISTANT:", " cup", ""])
def test_both_sides_of_the_image_are_tokenised_apart_as_the_original_does(
    before: str, after: str, tmp_path: Path
) -> None:
    words, known = read_tokenizer(folder(tmp_path), fast=False), pieces.vocabulary()
    image = words.convert_tokens_to_ids("<image>")
    expected = [1, *pieces.tokenise(before, known), image, image, *pieces.tokenise(after, known)]
    assert words(f"{before}<image><image>{after}")["input_ids"] == expected
    assert image == len(known) == max(words.get_vocab().values())


def test_no_first_token_where_the_original_adds_none(tmp_path: Path) -> None:
    words = read_tokenizer(folder(tmp_path, add_bos_token=False), fast=False)
    assert words("<image>cup")["input_ids"][0] == words.convert_tokens_to_ids("<image>")


@pytest.mark.parametrize("where", ["added_tokens.json", "tokenizer_config.json"])
def test_added_tokens_keep_their_ids_and_the_image_comes_after_them(where: str, tmp_path: Path) -> None:
    size = len(pieces.vocabulary())
    tokens = {"<im_patch>": size, "<im_start>": size + 1}
    if where == "added_tokens.json":
        source = folder(tmp_path)
        (source / where).write_text(json.dumps(tokens))
    else:
        source = folder(tmp_path, added_tokens_decoder={str(i): {"content": token} for token, i in tokens.items()})
    words = read_tokenizer(source, fast=False)
    assert words.convert_tokens_to_ids(["<im_patch>", "<im_start>", "<image>"]) == [size, size + 1, size + 2]
    assert max(words.get_vocab().values()) == size + 2


def test_tokens_that_the_original_code_adds_come_before_the_images(tmp_path: Path) -> None:
    size = len(pieces.vocabulary())
    words = read_tokenizer(folder(tmp_path), fast=False, added=["<im_patch>", "<im_start>"])
    assert words.convert_tokens_to_ids(["<im_patch>", "<im_start>", "<image>"]) == [size, size + 1, size + 2]


def test_added_tokens_of_another_tokenizer_are_found_out(tmp_path: Path) -> None:
    source = folder(tmp_path)
    (source / "added_tokens.json").write_text(json.dumps({"<im_patch>": 32000}))
    with pytest.raises(ModelError, match=r"added token <im_patch> the id \d+, and its files say 32000"):
        read_tokenizer(source, fast=False)


def test_what_is_no_tokenizer_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no tokenizer"):
        read_tokenizer(tmp_path, fast=False)
    (tmp_path / "tokenizer.model").write_bytes(b"not a model \xff\xff\xff")
    with pytest.raises(ModelError, match="is no sentencepiece model"):
        read_tokenizer(tmp_path, fast=False)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json is damaged"):
        read_tokenizer(tmp_path, fast=True)


def test_a_token_that_the_tokenizer_lacks_is_said(tmp_path: Path) -> None:
    source = folder(tmp_path, pad_token="[PAD]")
    with pytest.raises(ModelError, match=r"does not know its own token \[PAD\]"):
        read_tokenizer(source, fast=False)
