"""A stock word-level tokenizer: lower case, one token per word or punctuation mark, a leading `<s>`."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from locheads.pocket.scenes import COLOURS, DOTS, SHAPES, SIZES, TEXTURES

SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
SYSTEM_WORDS = SYSTEM.lower().replace(".", " .").replace(",", " ,").split()
PAD, BOS, EOS, UNK, IMAGE = "<pad>", "<s>", "</s>", "[UNK]", "<image>"
_OTHER = (
    "object objects thing one on at the in of to left right top bottom above below larger smaller biggest smallest "
    "largest what which where is are there how many colour color size shape texture dots with or and that it its "
    "picture image describe find user assistant : ? ! ; ' \" ( ) [ ] - please answer question region this sentence "
    "refers locate box bounding give provide for does do yes no middle center centre corner next"
)


def vocabulary() -> list[str]:
    """Every token in the order of its id."""
    words = [*SYSTEM_WORDS, *DOTS, *SIZES, *COLOURS, *SHAPES, *TEXTURES, *_OTHER.split()]
    return list(dict.fromkeys([PAD, BOS, EOS, UNK, IMAGE, *words]))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the pocket model. Words that it does not know become `[UNK]`."""
    ids = {word: i for i, word in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, unk_token=UNK, pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE}, padding_side="left", model_max_length=1024,
    )  # fmt: skip
