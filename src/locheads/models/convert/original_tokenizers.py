"""Original tokenizers as one fast tokenizer.json with a token for the image, and the original conversations.

A sentencepiece model is turned into the same merges on the same normalised text. The original code tokenises the text
before and after the image apart; here both come in one text with image tokens between, and give the same tokens,
because the space that sentencepiece puts before a text is put before each part between added tokens.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

from locheads.errors import ModelError, boundary
from locheads.models.convert.checkpoint import settings_if_any

IMAGE = "<image>"
"""Stands for the image in a text."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of sentencepiece pieces."""
BPE = 2
"""sentencepiece's name of the algorithm."""


def read_tokenizer(folder: Path, fast: bool, added: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint, with the image's token after all others.

    Args:
        folder: the checkpoint.
        fast: the original code prefers tokenizer.json to tokenizer.model.
        added: tokens that the original code adds when it loads the tokenizer, where they are not in it.

    Raises:
        ModelError: no tokenizer, a damaged one, or one of an algorithm that cannot be converted.
    """
    settings = _settings(folder)
    backend = _backend(folder, settings, fast)
    _add_recorded(backend, folder, settings)
    backend.add_special_tokens([_special(token) for token in (*added, IMAGE)])
    roles = {role: token for role in ("bos_token", "eos_token", "unk_token", "pad_token")
             if (token := _content(settings.get(role)))}  # fmt: skip
    absent = [token for token in roles.values() if backend.token_to_id(token) is None]
    if absent:
        raise ModelError(f"The tokenizer of {folder} does not know its own token {absent[0]}: download it again.")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, extra_special_tokens={"image_token": IMAGE}, clean_up_tokenization_spaces=False,
        **roles,
    )  # fmt: skip


def sentencepiece_tokenizer(folder: Path, made: Path) -> dict[str, Any]:
    """Writes the tokenizer.json of a checkpoint that has tokenizer.model alone. -> its tokenizer_config.json.

    Raises:
        ModelError: a damaged tokenizer.model, or one of an algorithm that cannot be converted.
    """
    settings, trained = _settings(folder), _parsed(folder / "tokenizer.model").trainer_spec
    backend = _from_sentencepiece(folder / "tokenizer.model", settings)
    _add_recorded(backend, folder, settings)
    backend.save(str(made))
    own = {"bos_token": trained.bos_piece, "eos_token": trained.eos_piece, "unk_token": trained.unk_piece}
    roles = {role: _content(settings.get(role)) or piece for role, piece in own.items()}
    # The class of a family would build a tokenizer of its own from the vocabulary.
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    return settings_if_any(folder / "tokenizer_config.json") | roles | kind


def _settings(folder: Path) -> dict[str, Any]:
    files = (folder / "special_tokens_map.json", folder / "tokenizer_config.json")
    return {key: value for file in files for key, value in settings_if_any(file).items() if value is not None}


def _backend(folder: Path, settings: Mapping[str, Any], fast: bool) -> Tokenizer:
    ready, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    if ready.exists() and (fast or not pieces.exists()):
        with boundary(f"{ready} is damaged", ModelError, "download it again."):
            return Tokenizer.from_file(str(ready))
    if pieces.exists():
        return _from_sentencepiece(pieces, settings)
    raise ModelError(f"{folder} has no tokenizer (tokenizer.model or tokenizer.json): download it as well.")


def _from_sentencepiece(path: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a sentencepiece BPE model, its first token included where `settings` have `add_bos_token`."""
    model = _parsed(path)
    pieces, trained, normal = model.pieces, model.trainer_spec, model.normalizer_spec
    if trained.model_type != BPE:
        raise ModelError(f"{path} is a sentencepiece model of another kind than BPE, which cannot be converted.")
    vocabulary = {piece.piece: i for i, piece in enumerate(pieces)}
    scores = {piece.piece: piece.score for piece in pieces}
    outside = {piece.piece for piece in pieces if piece.type in (UNKNOWN, CONTROL, UNUSED, BYTE)}
    backend = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=generate_merges(vocabulary, scores, skip_tokens=outside),
            unk_token=pieces[trained.unk_id].piece, fuse_unk=True, byte_fallback=trained.byte_fallback,
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
    with boundary(f"{path} is no sentencepiece model", ModelError, "download it again."):
        model.ParseFromString(path.read_bytes())
        if not model.pieces:
            raise ValueError("it holds no pieces")
    return model


def _add_recorded(backend: Tokenizer, folder: Path, settings: Mapping[str, Any]) -> None:
    """Tokens that were added to the vocabulary later, in the order of their ids, which must come out again."""
    recorded = {int(i): _content(token) for i, token in settings.get("added_tokens_decoder", {}).items()}
    recorded |= {int(i): token for token, i in settings_if_any(folder / "added_tokens.json").items()}
    for i, token in sorted(recorded.items()):
        if token is None:
            continue
        backend.add_special_tokens([_special(token)])
        if backend.token_to_id(token) != i:
            raise ModelError(
                f"The tokenizer of {folder} gives its added token {token} the id {backend.token_to_id(token)}, and its "
                f"files say {i}: they do not belong together."
            )


def _content(token: Any) -> str | None:
    """A token is written as text or as settings that hold it."""
    return token.get("content") if isinstance(token, dict) else token


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
YI = (
    "This is a chat between an inquisitive human and an AI assistant. Assume the role of the AI assistant. "
    "Read all the images carefully, and respond to the human's questions with informative, helpful, detailed and "
    "polite answers. "
    "这是一个好奇的人类和一个人工智能助手之间的对话。假设你扮演这个AI助手的角色。"
    "仔细阅读所有的图像，并对人类的问题做出信息丰富、有帮助、详细的和礼貌的回答。"  # noqa: RUF001
)


def _template(system: str, before: str, after: str, assistant: str) -> str:
    """A chat template of one question, no history; `before` and `after` stand around the user's message."""

    def say(text: str) -> str:
        """Text as an expression: Jinja, as transformers sets it, swallows a line break that follows a block."""
        return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"

    image = "{% if part['type'] == 'image' %}" + say("IMAGE_TEXT\n")
    parts = "{% for part in message['content'] %}" + image + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    loop = "{% for message in messages %}" + say(before) + parts + say(after) + "{% endfor %}"
    return say(system) + loop + "{% if add_generation_prompt %}" + say(assistant) + "{% endif %}"


CONVERSATIONS = {
    "llava_v1": _template(HUMAN + " ", "USER: ", " ", "ASSISTANT:"),
    "vicuna_v1": _template(HUMAN.replace("human", "user") + " ", "USER: ", " ", "ASSISTANT:"),
    "llava_v0": _template(HUMAN + "###", "Human: ", "###", "Assistant:"),
    "yi_vl": _template(YI + "\n\n### ", "Human: ", "\n### ", "Assistant:"),
    "mini_gemini": _template("", "<start_of_turn>user\n", "<end_of_turn>\n", "<start_of_turn>model\n"),
}
"""Name -> chat template, from the `conversation.py` of each model's own repository; IMAGE_TEXT stands for the image's
token and what is around it. conf/prompt holds the same texts as prompts of their own."""


def chat_template(name: str, image: str) -> str:
    """The template with the image's text in place. Raises ModelError for an unknown name."""
    if name not in CONVERSATIONS:
        raise ModelError(f"--conversation {name} is unknown: there are {', '.join(CONVERSATIONS)}.")
    return CONVERSATIONS[name].replace("IMAGE_TEXT", image)
