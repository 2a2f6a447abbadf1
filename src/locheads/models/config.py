"""The choices of the LVLM and of what it is asked; kept apart, because the configuration loads before everything."""

import re
from enum import StrEnum

from locheads.dotted import is_dotted
from locheads.errors import ConfigError, chosen
from locheads.geometry import Preprocess
from locheads.settings import Count, Text, require, settings

PROBE = "probe"
"""model.adapter that is nobody's: the model itself is asked."""


class DType(StrEnum):
    """Floating-point type of the model's weights; rows are always float32 softmax."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ImageBackend(StrEnum):
    """Which of transformers' two forms of the image processor makes the pixels."""

    own = "own"
    """The one that the checkpoint was made with (docs/models.md); PIL's where that is torchvision's, which is not
    installed."""
    pil = "pil"
    torchvision = "torchvision"


@settings("model")
class ModelConfig:
    """The LVLM."""

    name: str = "pocket"
    id: Text = "pocket"
    """"pocket" or "pocket_v1" (shipped with the package), a hub id, or a folder with a checkpoint."""
    revision: Text | None = None
    """Commit of the hub repository; pin it for figures that others should be able to repeat."""
    dtype: DType = DType.float32
    preprocess: Preprocess = Preprocess.pad
    tiles: bool = False
    """For families that cut an image into tiles: the grid is that of the tiles, not that of the view of the whole
    image. Either way the model reads both."""
    image_backend: ImageBackend = ImageBackend.own
    trust_remote_code: bool = False
    adapter: Text | None = None
    """A subclass of FamilyAdapter of your own, package.module:Class, instead of the family's (adapters/TEMPLATE.md);
    "probe": nobody's, the loaded model itself is asked where its image tokens look."""

    def __post_init__(self) -> None:
        fine = self.adapter in (None, PROBE) or is_dotted(self.adapter)
        require((fine, f"model.adapter={self.adapter} is no dotted path: write package.module:Class, probe, or null."))


REFERSEG = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language.\n<image>\n{expression}"
)
"""The released code's text: system line, image, expression; no roles."""


class Query(StrEnum):
    """The tokens from which attention is taken. Those of the model's own greedy answer are the rows that predict what
    is named: the row of the token before it."""

    last = "last"
    """The last token of the whole prompt (the paper)."""
    expression_last = "expression_last"
    """The last token of the expression itself, without an added full stop."""
    expression_mean = "expression_mean"
    """The mean of the rows of all tokens of the expression."""
    answer_first = "answer_first"
    """The row that predicts the first token of the answer: `last`, whatever the answer is."""
    answer_word = "answer_word"
    """answer_word:N, the mean of the rows that predict the N-th word of the answer, counted from 1."""
    answer_mean = "answer_mean"
    """The mean of the rows that predict any token of the answer."""
    answer_numbers = "answer_numbers"
    """The mean of the rows that predict the four numbers of the box in the answer (direct.box_format)."""
    answer_end = "answer_end"
    """The row that predicts that the answer ends."""


WORD = re.compile(r"answer_word:([1-9]\d{0,3})")


def query_of(query: str) -> tuple[Query, int]:
    """prompt.query -> (its kind, N of answer_word:N, else 0).

    Raises:
        ConfigError: it is no choice of `Query`, or a word without its number.
    """
    if word := WORD.fullmatch(query):
        return Query.answer_word, int(word[1])
    kind = chosen(Query, query)
    require((kind != Query.answer_word, f"The query {query} needs the number of the word, as in answer_word:2."))
    return kind, 0


@settings("prompt")
class PromptConfig:
    """What the LVLM is asked. `<image>` and `{expression}` stand for the image and the expression."""

    name: str = "referseg"
    template: str = REFERSEG
    full_stop: bool = True
    """Ends an expression with a full stop, the query token of the paper's examples, where it has none."""
    chat: bool = False
    """The template is a question without `<image>`; the model's own chat template puts roles and image around it."""
    query: Text = Query.last
    """A `Query`. Where the expression stands several times in the template, the last of them counts."""
    max_new_tokens: Count = 64
    """Of the model's own answer: for stage=direct, and for a query in the answer."""

    def __post_init__(self) -> None:
        images, slot = self.template.count("<image>"), self.template.find("{expression}")
        placed = "prompt.template must not hold <image> with prompt.chat=true: the chat template places the image."
        try:
            query_of(self.query)
        except ConfigError as error:
            raise ConfigError(f"prompt.query: {error}") from None
        late = "prompt.template must have <image> before {expression}: the image is read once for all expressions."
        require(
            (slot >= 0, "prompt.template has no {expression}: add it where the expression goes."),
            (not self.chat or images == 0, placed),
            (self.chat or images == 1, "prompt.template must hold <image> exactly once."),
            (self.chat or self.template.find("<image>") < slot, late),
        )

    @property
    def asks(self) -> bool:
        """Whether attention is taken from the model's own answer, which has to be had first."""
        return self.query.startswith("answer")
