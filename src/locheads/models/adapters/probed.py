"""model.adapter=probe: a family that nobody wrote an adapter for is asked itself.

The checkpoint's own processor makes the prompt. Where each image token looks is painted out (`painted.py`), and what
rows, columns and views they form follows (`patch_grids.py`). What cannot be placed is refused with the reason.
"""

import copy
import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from locheads.errors import ModelError, boundary
from locheads.geometry import Geometry
from locheads.models.adapters.family import UNDER_THEIR_NAMES, Cells, FamilyAdapter, Sharing
from locheads.models.capture import ONE_PASS
from locheads.models.config import PromptConfig
from locheads.models.findings import Finding, Outcome
from locheads.models.painted import ASPECTS, PROMPT, NearSighted, decoder_call, find_places, noise
from locheads.models.patch_grids import Grid, find_grids, whole_view
from locheads.models.prompts import IMAGE, PromptText, fill, prompt_text

MARK = "probe"
"""Stands for what is before and behind the image in a prompt, where only the image's part of it matters."""
TYPES, COUNTED = "token_type_ids", "mm_token_type_ids"
"""How names of a token's type end, and the one that the model needs to count positions alone."""
INSTEAD = "write an adapter (models/adapters/TEMPLATE.md), or choose a model of another family."


@dataclass(frozen=True)
class Reading:
    """What the checkpoint's processor makes of an image and a prompt that is the image between two MARKs."""

    ids: Int[Tensor, "token"]
    tensors: dict[str, Tensor]
    types: dict[str, Int[Tensor, "token"]]
    """`token_type_ids` and such, where the model takes them."""
    before: list[int]
    """The tokens that the processor puts before those of a prompt, where it gives the image no place in the text."""
    beginning: str
    image_text: str
    ending: str
    """What the processor puts before and behind a prompt."""
    special: bool
    """Whether the tokenizer may add its own first token."""

    def content(self) -> Hashable:
        """Equal for images of which the processor makes the same tokens and as many pixels."""
        whole = {name: value.numpy().tobytes() for name, value in self.tensors.items() if not value.is_floating_point()}
        shapes = [(name, tuple(value.shape)) for name, value in self.tensors.items()]
        return hash((self.image_text, tuple(self.before), tuple(shapes), tuple(whole.items())))


@dataclass(frozen=True)
class View:
    """What is known of images of one size, or of which the processor makes the same."""

    tokens: Int[np.ndarray, "row col"]
    """Which of the image tokens are the grid."""
    geometry: Geometry
    positions: Int[Tensor, "axis token"] | None
    """From the first image token on, which is at 0; None: they count up by one."""

    def of_size(self, width: int, height: int) -> "View":
        corners = (0.0, 0.0, float(self.geometry.width), float(self.geometry.height))
        return replace(self, geometry=self.geometry.seen_through(width, height, corners))


class Probe:
    """A loaded model, and what was found out by asking it. An adapter's copies for several threads share it."""

    def __init__(self, model: Any, read: Callable[[Image.Image], Reading], tiles: bool) -> None:
        """Raises ModelError where no token of the decoder's sequence changes with the image."""
        self.model, self.read, self.tiles = model, read, tiles
        self.views: dict[Hashable, View] = {}
        self.by_content = False
        """Whether images are laid out the same where the processor makes the same of them, whatever their size."""
        self.counts_itself = False
        """Whether the model counts positions in several rows, and text not by one from the last on."""
        self.image_token = self._image_token(*ASPECTS["square"])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Probe":
        return self

    def view(self, size: tuple[int, int], reading: Reading) -> View:
        """Raises ModelError where the tokens of such an image cannot be placed."""
        key = reading.content() if self.by_content else size
        with ONE_PASS:
            if key not in self.views:
                self.views[key] = self._find(*size)
        return self.views[key].of_size(*size)

    def try_aspects(self) -> None:
        """Finds the views of three aspect ratios. Raises ModelError where the tokens of one cannot be placed."""
        found = {size: self._find(*size) for size in ASPECTS.values()}
        contents = [self.read(noise(*size, seed=0)).content() for size in found]
        # Two rows of three tiles are as many as three of two: then the processor's tensors do not tell them apart.
        shapes = {(content, view.tokens.shape) for content, view in zip(contents, found.values(), strict=True)}
        alike = _alike([view.geometry for view in found.values()])
        self.by_content = alike and len(shapes) == len(set(contents))
        self.views = dict(zip(contents if self.by_content else found, found.values(), strict=True))

    def _find(self, width: int, height: int) -> View:
        reading = self.read(noise(width, height, seed=0))
        n = int((reading.ids == self.image_token).sum())
        grid = self._grid(width, height, n)
        return View(grid.tokens, grid.geometry, self._positions(reading))

    def _grid(self, width: int, height: int, n: int) -> Grid:
        bands = [int(np.clip(2 * (n * ratio) ** 0.5, 20, 64)) for ratio in (width / height, height / width)]
        one, two = (self._look(noise(width, height, seed)) for seed in (0, 1))
        moves = (one != two).any(dim=-1).numpy()
        # A tower that cannot be made near-sighted needs a mean over several grounds.
        for grounds in (1, 8):
            with NearSighted():
                places = find_places(self._look, width, height, (bands[0], bands[1]), grounds)
            try:
                return whole_view(find_grids(places, moves, width, height), places, self.tiles)
            except ModelError as error:
                failed = error
        raise ModelError(
            f"model.adapter=probe cannot place the {n} image tokens of an image of {width} x {height} pixels: "
            f"{failed}. Instead {INSTEAD}"
        ) from failed

    def _look(self, image: Image.Image) -> Float[Tensor, "token hidden"]:
        reading = self.read(image)
        return self._call(reading)[0][reading.ids == self.image_token]

    def _call(self, reading: Reading, **more: Tensor) -> tuple[Float[Tensor, "token hidden"], Tensor | None]:
        """-> (the decoder's input, the position ids that it is given)."""
        model = self.model
        rows = {"input_ids": reading.ids, "attention_mask": torch.ones_like(reading.ids), **reading.types}
        tensors = reading.tensors | {name: row[None] for name, row in rows.items()} | more
        placed = {k: v.to(model.device, model.dtype if v.is_floating_point() else None) for k, v in tensors.items()}
        with boundary("model.adapter=probe: the model's forward pass failed", ModelError, INSTEAD):
            hidden, positions = decoder_call(model, placed)
        return hidden[0], positions

    def _image_token(self, width: int, height: int) -> int:
        """The id of the tokens that change with the image. Raises ModelError where none does."""
        one, two = (self.read(noise(width, height, seed)) for seed in (0, 1))
        moved = (self._call(one)[0] != self._call(two)[0]).any(dim=-1)
        if not moved.any():
            raise ModelError(
                "model.adapter=probe: no token of the decoder's own sequence changes with the image, at which the "
                f"model looks by cross-attention or in an encoder: {INSTEAD}"
            )
        return int(one.ids[moved].mode().values)

    def _positions(self, reading: Reading) -> Int[Tensor, "axis token"] | None:
        found = self._call(reading)[1]
        if found is None or found.ndim < 3:
            return None
        where = (reading.ids == self.image_token).nonzero().squeeze(1)
        first, behind = int(where[0]), int(where[-1]) + 1
        # Some give their decoder one row more than they take, the text's own count.
        for rows in (found[-3:, 0].cpu().long(), found[:, 0].cpu().long()):
            before, after = torch.arange(first), torch.arange(rows.shape[1] - behind) + rows[:, :behind].max() + 1
            counted = (rows[:, :first] == before).all() and (rows[:, behind:] == after).all()
            if counted and self._takes(reading, rows):
                return rows[:, first:] - first
        self.counts_itself = True
        return None

    def _takes(self, reading: Reading, rows: Int[Tensor, "axis token"]) -> bool:
        try:
            self._call(reading, position_ids=rows[:, None])
        except ModelError:
            return False
        return True


class ProbedAdapter(FamilyAdapter):
    """Whatever family it is, as its own processor and model show it; nothing but the model's name is known before."""

    has_tiles = True
    square = False
    not_for_model = ("reading", "found")
    probe: Probe
    _in_text = True
    """Whether the processor takes a place for the image in a prompt."""

    def examine(self, lvlm: Any) -> None:
        """Raises ModelError for a model whose image tokens cannot be placed, or of which a check fails."""
        if getattr(self.config, "is_encoder_decoder", False):
            raise ModelError(f"model.adapter=probe: the image goes to the encoder of an encoder-decoder: {INSTEAD}")
        with boundary("model.adapter=probe: the processor makes no prompt with an image", ModelError, INSTEAD):
            self._find_placeholder()
            self._forward = set(inspect.signature(lvlm.model.base_model.forward).parameters)
            first = self._first_reading(noise(*ASPECTS["square"], seed=0))
        self._beginning, self._ending, self._special = first.beginning, first.ending, first.special
        # A processor of its own: tokenizers refuse to be used by two threads at once.
        self.probe = Probe(lvlm.model, copy.deepcopy(self)._read, self.tiles)
        behind = int((first.ids == self.image_token_id).nonzero()[-1, 0]) + 1
        self.after_image = max([int((types[behind:] != 0).sum()) for types in first.types.values()], default=0)
        with boundary("model.adapter=probe: the model does not take what its processor makes", ModelError, INSTEAD):
            self.probe.try_aspects()
            self._examine_rows(lvlm)

    def found(self) -> dict[str, Any]:
        """What was found out, for the record of a run."""
        return {
            "image_token": self.image_token_id,
            "wrapping": self.wrapping,
            "sharing": self.sharing.value,
            "by_size": not self.probe.by_content,
            "views": [view.geometry.as_dict() for view in self.probe.views.values()],
        }

    @property
    def image_token_id(self) -> int:
        return self.probe.image_token

    @property
    def placeholder(self) -> str:
        return self._stands_for_it

    def image_text(self, inputs: Any) -> str:
        return str(inputs["reading"].image_text)

    def finish(self, question: PromptText) -> PromptText:
        first = "" if question.text.startswith(self._beginning) else self._beginning
        return PromptText(first + question.text + self._ending, question.start + len(first), question.end + len(first))

    def cells(self, n_tokens: int, inputs: Any, view: Image.Image) -> Cells:
        return torch.from_numpy(inputs["found"].tokens.flatten()), inputs["found"].geometry

    def extras(self, prefix: Int[Tensor, "prefix"], inputs: Any) -> dict[str, Any]:
        is_image = prefix == self.image_token_id
        more: dict[str, Any] = {}
        reading, positions = inputs["reading"], inputs["found"].positions
        for name, types in reading.types.items():
            # Those of the image and its tags, the same behind any text; where positions are given, nobody counts.
            if positions is None or name != COUNTED:
                typed = torch.isin(prefix, reading.ids[types != 0])
                more = {"token_types": typed.long() * int(types.max()), "token_types_name": name}
        if positions is not None:
            start = int(is_image.nonzero()[0, 0])
            more["prefix_positions"] = torch.cat(
                [torch.arange(start).expand(len(positions), -1), start + positions[:, : len(prefix) - start]], dim=1
            )
        return more

    def _process(self, view: Image.Image) -> Any:
        reading = self._read(view)
        return {**reading.tensors, "reading": reading, "found": self.probe.view(view.size, reading)}

    def _ask(self, prompt: PromptConfig, expression: str, image_text: str) -> PromptText:
        if self._in_text or prompt.chat:
            return super()._ask(prompt, expression, image_text)
        return self.finish(fill(prompt_text(prompt, expression), IMAGE, ""))

    def _tokenise(self, question: PromptText, query: str, inputs: Any) -> tuple[list[int], tuple[int, int]]:
        ids, (first, end) = super()._tokenise(question, query, inputs)
        before = inputs["reading"].before
        return [*before, *ids], (first + len(before), end + len(before))

    def _adds_special(self, question: PromptText) -> bool:
        return self._special and super()._adds_special(question)

    def _first_reading(self, view: Image.Image) -> Reading:
        """Finds out whether the image has a place in the text, and what the model calls the pixels."""
        try:
            reading = self._read(view)
        except Exception as refused:  # a processor raises whatever it likes
            self._in_text = False
            try:
                reading = self._read(view)
            except Exception:
                raise refused from None
        if reading.tensors:
            return reading
        self.stock_options = UNDER_THEIR_NAMES
        return self._read(view)

    def _read(self, view: Image.Image) -> Reading:
        """What the whole processor makes of the image; the text is overheard where it goes to the tokenizer."""
        processor, heard = copy.copy(self.processor), _Overheard(self.processor.tokenizer)
        processor.tokenizer = heard
        image = self.wrapping.format(self.placeholder) if self._in_text else ""
        made = processor(text=MARK + image + MARK, images=view, return_tensors="pt", **self.stock_options)
        beginning, _, rest = heard.text.partition(MARK)
        image_text, found, ending = rest.rpartition(MARK)
        if not found:
            raise ModelError("model.adapter=probe: the processor does not keep the text of a prompt: " + INSTEAD)
        before, after = self.wrapping.split("{}") if self._in_text else ("", "")
        image_text = image_text.removeprefix(before).removesuffix(after)
        inputs = {name: made[name] for name in made if name in self._forward}
        ids = inputs.pop("input_ids")[0]
        types = {name: inputs.pop(name)[0] for name in list(inputs) if name.endswith(TYPES)}
        inputs.pop("attention_mask", None)
        first = ids[: len(ids) - heard.tokens].tolist()
        return Reading(ids, inputs, types, first, beginning, image_text, ending, heard.special)

    def _find_placeholder(self) -> None:
        """What stands for the image in a prompt, and what the chat template puts around it."""
        chat = getattr(self.processor, "chat_template", None) is not None
        parts: list[dict[str, str]] = [{"type": "image"}, {"type": "text", "text": MARK}]
        with_image, without = (self._chat(content) if chat else "" for content in (parts, parts[1:]))
        # Some expand a placeholder of another name than their image tokens'.
        names = [self.processor.image_token, *(text for name, text in vars(self.processor).items() if "image" in name)]
        written = (name for name in names if isinstance(name, str) and name in with_image and name not in without)
        self._stands_for_it = next(written, self.processor.image_token)
        self.wrapping = self._around(with_image, without)

    def _around(self, with_image: str, without: str) -> str:
        """The image's tags and what is between them, {} for the image: from the first to the last that a chat without
        an image lacks."""
        head, found, tail = with_image.partition(self.placeholder)
        tail = tail.partition(MARK)[0]
        names = [str(token) for token in self.processor.tokenizer.get_added_vocab() if str(token) not in without]
        before = min((head.index(name) for name in names if name in head), default=len(head))
        after = max((tail.rindex(name) + len(name) for name in names if name in tail), default=0)
        return head[before:] + "{}" + tail[:after] if found else "{}"

    def _chat(self, content: list[dict[str, str]]) -> str:
        messages = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _examine_rows(self, lvlm: Any) -> None:
        """Checks geometry and rows, and decides whether expressions share the image. Raises ModelError."""
        # Only here: the checks stand above the adapters.
        from locheads.models.verification.eager_rows import check_attention
        from locheads.models.verification.painted_cells import check_geometry

        _refuse(check_geometry(lvlm, ASPECTS))
        if self.probe.counts_itself:
            self.sharing = Sharing.plain
        if self.sharing is Sharing.packed and not _passes(lambda: check_attention(lvlm, PROMPT)):
            self.sharing = Sharing.plain
        if self.sharing is Sharing.plain:
            _refuse(check_attention(lvlm, PROMPT))


class _Overheard:
    """A tokenizer that remembers the text with a MARK that it was given, and how many tokens it made of it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.text, self.special, self.tokens = tokenizer, "", True, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any, *arguments: Any, **options: Any) -> Any:
        made, heard = self._tokenizer(text, *arguments, **options), text if isinstance(text, str) else text[0]
        if MARK in heard:
            ids = made["input_ids"]
            self.text, self.special = heard, options.get("add_special_tokens", True)
            self.tokens = len(ids if isinstance(text, str) and not isinstance(ids, Tensor) else ids[0])
        return made


def _alike(geometries: list[Geometry]) -> bool:
    """Whether images of several aspect ratios fill their grids alike: then what a processor makes the same of is laid
    out the same. Within a third of a cell."""
    sides = [np.array([one.cols, one.rows] * 2) for one in geometries]
    corners = [one.to_cells(np.array([0, 0, one.width, one.height])) for one in geometries]
    mean = np.mean([corner / side for corner, side in zip(corners, sides, strict=True)], axis=0)
    return all(np.abs(corner - mean * side).max() < 1 / 3 for corner, side in zip(corners, sides, strict=True))


def _passes(check: Callable[[], list[Finding]]) -> bool:
    try:
        return all(finding.outcome != Outcome.failed for finding in check())
    except ModelError:  # a forward pass that takes no such mask
        return False


def _refuse(findings: list[Finding]) -> None:
    for one in findings:
        if one.outcome == Outcome.failed:
            raise ModelError(f"model.adapter=probe: {one.name}: {one.text}: {INSTEAD}")
