"""REFER's expressions as F-LMM takes them for RES (arXiv 2406.05821; mmdet `refcoco.py` with text_mode=select_first,
wusize/F-LMM `flmm/datasets/transforms.py`): one for each object, alone or all of an image in one text.

The paper's Table 7 sets its own method, asked expression by expression, beside F-LMM's figures of this protocol.
"""

from collections.abc import Iterable
from dataclasses import replace

from locheads.types import Excerpt, ImageGroup


def first_expressions(refs: Iterable[dict]) -> list[dict]:
    """The refs of a split with their first sentence only, as it was typed (`raw`), in lower case. Of several refs of
    one annotation the last is taken, in the place of the first. A damaged ref stays as it is, for others to name."""
    by_annotation = {_annotation(ref, number): ref for number, ref in enumerate(refs)}
    return [_first(ref) for ref in by_annotation.values()]


def _annotation(ref: dict, number: int) -> object:
    return ref["ann_id"] if isinstance(ref.get("ann_id"), int) else f"ref {number}"


def _first(ref: dict) -> dict:
    sentences = ref.get("sentences")
    if not isinstance(sentences, list) or not sentences or not isinstance(sentences[0], dict):
        return ref
    text = sentences[0].get("raw") or sentences[0].get("sent")
    return ref | {"sentences": [sentences[0] | {"sent": text.lower() if isinstance(text, str) else text}]}


def in_one_text(groups: Iterable[ImageGroup]) -> list[ImageGroup]:
    """The expressions of every image one after the other in one text, a full stop behind each, with its own place."""
    return [_joined(group) for group in groups]


def _joined(group: ImageGroup) -> ImageGroup:
    texts = [f"{' '.join(sample.expression.split())}." for sample in group.samples]
    before = [" ".join([*texts[:i], ""]) for i in range(len(texts))]
    after = [" ".join(["", *texts[i + 1 :]]) for i in range(len(texts))]
    excerpts = [Excerpt.within(a, text[:-1], f".{b}") for a, text, b in zip(before, texts, after, strict=True)]
    samples = (replace(own, sentence=one) for own, one in zip(group.samples, excerpts, strict=True))
    return replace(group, samples=tuple(samples))
