"""Original tokenizers as one fast tokenizer.json, in which the image's placeholder is a token.

A sentencepiece model is turned into the same merges on the same normalised text. The original code tokenises the text
before and after the image apart; here both come in one text with image tokens between, and give the same tokens,
because the space that sentencepiece puts before a text is put before each part between added tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

from locheads.errors import ModelError, boundary
from locheads.models.convert.source import read_json

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of sentencepiece pieces."""
BPE = 2
"""sentencepiece's name of the algorithm."""


@dataclass(frozen=True)
class Words:
    """A tokenizer with the image's token in it."""

    tokenizer: PreTrainedTokenizerFast
    image_token_id: int
    size: int
    """Token ids in use: all are below it."""


def read_tokenizer(
    folder: Path, image_token: str, fast: bool, named: Mapping[str, str] | None = None, added: Sequence[str] = ()
) -> Words:
    """The tokenizer of a checkpoint.

    Args:
        folder: the checkpoint.
        image_token: stands for the image; it is added where the tokenizer has no such token.
        fast: the original code prefers tokenizer.json to tokenizer.model.
        named: further tokens that the processor asks for by name, such as `start_image_token`.
        added: tokens that the original code adds when it loads the tokenizer, where they are not in it.

    Raises:
        ModelError: no tokenizer, a damaged one, or one of an algorithm that cannot be converted.
    """
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    backend = _backend(folder, settings, fast)
    _add_recorded(backend, folder, settings)
    backend.add_special_tokens([_special(token) for token in (*added, image_token)])
    roles = {role: token for role in ("bos_token", "eos_token", "unk_token", "pad_token")
             if (token := _content(_setting(folder, settings, role)))}  # fmt: skip
    absent = [token for token in roles.values() if backend.token_to_id(token) is None]
    if absent:
        raise ModelError(f"The tokenizer of {folder} does not know its own token {absent[0]}: download it again.")
    extra = {"image_token": image_token, **(named or {})}
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend, extra_special_tokens=extra, clean_up_tokenization_spaces=False, **roles
    )
    return Words(words, int(words.convert_tokens_to_ids(image_token)), max(words.get_vocab().values()) + 1)


def _backend(folder: Path, settings: Mapping[str, Any], fast: bool) -> Tokenizer:
    ready, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    if ready.exists() and (fast or not pieces.exists()):
        with boundary(f"{ready} is damaged", ModelError, "download it again."):
            return Tokenizer.from_file(str(ready))
    if pieces.exists():
        return from_sentencepiece(pieces, settings)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        return _byte_level(folder)
    raise ModelError(f"{folder} has no tokenizer (tokenizer.model or tokenizer.json): download it as well.")


def from_sentencepiece(path: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a sentencepiece BPE model, its first token included where `settings` have `add_bos_token`.

    Raises:
        ModelError: a damaged file, or one of another algorithm.
    """
    model = _parsed(path)
    pieces, trained, normal = model.pieces, model.trainer_spec, model.normalizer_spec
    if trained.model_type != BPE:
        raise ModelError(f"{path} is a sentencepiece model of another kind than BPE, which cannot be converted.")
    vocabulary = {piece.piece: i for i, piece in enumerate(pieces)}
    scores = {piece.piece: piece.score for piece in pieces}
    outside = {piece.piece for piece in pieces if piece.type in (UNKNOWN, CONTROL, UNUSED, BYTE)}
    unknown = pieces[trained.unk_id].piece
    backend = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=generate_merges(vocabulary, scores, skip_tokens=outside), unk_token=unknown,
            fuse_unk=True, byte_fallback=trained.byte_fallback,
        )
    )  # fmt: skip
    backend.normalizer = _normaliser(normal)
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*back, decoders.Strip(" ", left=1)] if normal.add_dummy_prefix else back)
    backend.add_special_tokens([_special(piece.piece) for piece in pieces if piece.type in (UNKNOWN, CONTROL)])
    backend.add_tokens([AddedToken(p.piece, normalized=False) for p in pieces if p.type == USER_DEFINED])
    if settings.get("add_bos_token", True):
        first = _content(settings.get("bos_token"))
        first = first if first in vocabulary else pieces[trained.bos_id].piece
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, vocabulary[first])]
        )
    return backend


def _normaliser(spec: Any) -> normalizers.Normalizer:
    """What sentencepiece does to a text before it looks for pieces."""
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])


def _parsed(path: Path) -> Any:
    model = import_protobuf().ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's class depends on its build
        raise ModelError(f"{path} is damaged: it is no sentencepiece model. Download it again.") from error
    if not model.pieces:
        raise ModelError(f"{path} is damaged: it holds no pieces. Download it again.")
    return model


def _byte_level(folder: Path) -> Tokenizer:
    """vocab.json and merges.txt, as Qwen's tokenizers are shipped."""
    from transformers import Qwen2Tokenizer

    with boundary(f"vocab.json or merges.txt of {folder} is damaged", ModelError, "download them again."):
        return Qwen2Tokenizer.from_pretrained(folder).backend_tokenizer


def _add_recorded(backend: Tokenizer, folder: Path, settings: Mapping[str, Any]) -> None:
    """Tokens that were added to the vocabulary later, in the order of their ids, which must come out again."""
    recorded = {int(i): _content(token) for i, token in settings.get("added_tokens_decoder", {}).items()}
    if (folder / "added_tokens.json").exists():
        recorded |= {int(i): token for token, i in read_json(folder / "added_tokens.json").items()}
    for i, token in sorted(recorded.items()):
        if token is None:
            continue
        backend.add_special_tokens([_special(token)])
        if backend.token_to_id(token) != i:
            raise ModelError(
                f"The tokenizer of {folder} gives its added token {token} the id {backend.token_to_id(token)}, and its "
                f"files say {i}: they do not belong together."
            )


def _setting(folder: Path, settings: Mapping[str, Any], role: str) -> Any:
    if settings.get(role) is not None:
        return settings[role]
    path = folder / "special_tokens_map.json"
    return read_json(path).get(role) if path.exists() else None


def _content(token: Any) -> str | None:
    """A token is written as text or as settings that hold it."""
    return token.get("content") if isinstance(token, dict) else token


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


__all__ = ["Words", "from_sentencepiece", "read_tokenizer"]
