"""A tiny sentencepiece model, written as the original repositories ship theirs, and how it tokenises a text.

The second is a statement of the algorithm of its own: the best-scored neighbours are merged until none are left.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

from transformers.convert_slow_tokenizer import import_protobuf

WORDS = ["where", "is", "the", "red", "circle", "blue", "cup", "USER", "ASSISTANT", "Human", "Assistant", "image", "A"]
TEXT = " ".join(WORDS) + " ###:.,'"


def vocabulary(first: str = "<s>", last: str = "</s>") -> list[tuple[str, float, int]]:
    """(piece, score, kind): unknown, control, bytes, then merges by score, then single characters."""
    pieces: list[tuple[str, float, int]] = [("<unk>", 0.0, 2), (first, 0.0, 3), (last, 0.0, 3)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    merged: list[str] = []
    for word in WORDS:
        for text in (word, "▁" + word):
            merged += [text[:end] for end in range(2, len(text) + 1)]
    merged += ["▁▁", "##", "###"]
    unique = list(dict.fromkeys(sorted(merged, key=len)))
    pieces += [(piece, -float(i), 1) for i, piece in enumerate(unique)]
    characters = sorted(set("".join(WORDS) + "▁#:.,'"))
    return pieces + [(one, -float(len(unique) + i), 1) for i, one in enumerate(characters)]


def write(
    path: Path, pieces: Sequence[tuple[str, float, int]], dummy_prefix: bool = True, thrifty: bool = False
) -> None:
    model = import_protobuf().ModelProto()
    for text, score, kind in pieces:
        piece = model.pieces.add()
        piece.piece, piece.score, piece.type = text, score, kind
    model.trainer_spec.model_type = 2
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id, model.trainer_spec.bos_id, model.trainer_spec.eos_id = 0, 1, 2
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = dummy_prefix
    model.normalizer_spec.remove_extra_whitespaces = thrifty
    model.normalizer_spec.escape_whitespaces = True
    path.write_bytes(model.SerializeToString())


def tokenise(text: str, pieces: Sequence[tuple[str, float, int]], dummy_prefix: bool = True) -> list[int]:
    ids = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    scores = {piece: score for piece, score, kind in pieces if kind == 1}
    if not text:
        return []
    symbols = list((" " + text if dummy_prefix else text).replace(" ", "▁"))
    while True:
        pairs = [(scores[a + b], -i) for i, (a, b) in enumerate(itertools.pairwise(symbols)) if a + b in scores]
        if not pairs:
            break
        i = -max(pairs)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    found: list[int] = []
    for symbol in symbols:
        found += [ids[symbol]] if symbol in ids else [ids[f"<0x{byte:02X}>"] for byte in symbol.encode()]
    return found
