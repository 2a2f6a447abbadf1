"""A data set and a checkpoint of real size that anybody can make: what around the model costs depends on counts and
shapes, and on how attention maps look, but not on what is in the images."""

import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from locheads.bench.shapes import PATCH, Shape

WIDTH, HEIGHT = 640, 480
"""The most frequent size of COCO's images."""
VAL, TRAIN, SAMPLES = 10_834, 120_624, 1000
"""Expressions of RefCOCO val and train, and samples of each of discovery's five trials: a smaller data set has as large
a share of each, so that the samples of discovery lie on different images as in RefCOCO (1.15 expressions per image)."""
REFS = {1: 94, 2: 901, 3: 269, 4: 147, 5: 47, 6: 22, 7: 12, 8: 3, 9: 5}
SENTENCES = {2: 605, 3: 3206}
"""RefCOCO val's images by their refs, and refs by their expressions: 7.2 expressions per image, standard deviation 3.2
there and 3.3 in what is drawn here."""
PLACES = 32
"""Different places of objects, each named by a word of the expression, which is what a free model's maps follow."""
PHOTOS, QUALITY = 24, 91
"""Different JPEG files, which the images' names share; with a photograph's spectrum and COCO's bytes (165 kB)."""
SPECIAL = ("<s>", "</s>", "<unk>", "<image>")
"""The words before those of the places; all others are unknown."""


def place_boxes() -> Float[np.ndarray, "place 4"]:
    """xyxy of the ellipse at each place, in pixels; areas spread as those of RefCOCO val, 7 to 42 % of the image."""
    rng = np.random.default_rng(0)
    area = np.clip(np.exp(rng.normal(math.log(0.16), 0.65, PLACES)), 0.05, 0.5) * WIDTH * HEIGHT
    aspect = np.exp(rng.normal(0, 0.35, PLACES))
    size = np.minimum(np.sqrt(np.stack([area * aspect, area / aspect], 1)), (WIDTH - 20, HEIGHT - 20))
    start = rng.uniform(0, 1, (PLACES, 2)) * ((WIDTH, HEIGHT) - size)
    return np.concatenate([start, start + size], axis=1).round(1)


def write_dataset(root: Path, expressions: int) -> dict[str, Any]:
    """Writes train and val as REFER's files below `root`, a `paths.data`. -> what it holds and how to draw from it."""
    tables = _Tables(np.random.default_rng(expressions))
    val = tables.add("val", expressions)
    tables.add("train", max(round(expressions * TRAIN / VAL), 60))
    folder, images = root / "refcoco", root / "images" / "train2014"
    folder.mkdir(parents=True)
    images.mkdir(parents=True)
    (folder / "instances.json").write_text(json.dumps(tables.instances))
    (folder / "refs(unc).p").write_bytes(pickle.dumps(tables.refs, protocol=2))
    photos = [_photo(root / f"{number}.jpg", number) for number in range(PHOTOS)]
    for image in tables.instances["images"]:
        os.link(photos[image["id"] % PHOTOS], images / image["file_name"])
    return {**val, "n_samples": max(round(expressions * SAMPLES / VAL), 2)}


class _Tables:
    """Collects instances.json and refs(unc).p."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.boxes, self.refs, self.sentences = rng, place_boxes(), [], 0  # type: ignore[var-annotated]
        categories = [{"id": 1, "name": "thing", "supercategory": "thing"}]
        self.instances: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}

    def add(self, split: str, expressions: int) -> dict[str, int]:
        """Images until they have that many expressions. -> counts."""
        start, first = self.sentences, len(self.instances["images"])
        while self.sentences - start < expressions:
            image = len(self.instances["images"]) + 1
            name = f"COCO_train2014_{image:012d}.jpg"
            self.instances["images"].append({"id": image, "file_name": name, "width": WIDTH, "height": HEIGHT})
            for place in self.rng.permutation(PLACES)[: _drawn(self.rng, REFS)].tolist():
                self._add_ref(split, image, place)
        return {"images": len(self.instances["images"]) - first, "expressions": self.sentences - start}

    def _add_ref(self, split: str, image: int, place: int) -> None:
        number, sentences = len(self.refs) + 1, []
        for _ in range(_drawn(self.rng, SENTENCES)):
            self.sentences += 1
            text = f"{'the thing near it'[: self.rng.integers(3, 18)]} p{place}"
            sentences.append({"sent_id": self.sentences, "sent": text, "raw": text, "tokens": text.split()})
        x0, y0, x1, y1 = self.boxes[place].tolist()
        self.instances["annotations"].append(
            {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": [x0, y0, x1 - x0, y1 - y0],
             "area": math.pi / 4 * (x1 - x0) * (y1 - y0), "segmentation": [_ellipse(x0, y0, x1, y1)]}
        )  # fmt: skip
        self.refs.append(
            {"ref_id": number, "ann_id": number, "category_id": 1, "image_id": image, "split": split,
             "file_name": f"{image}_{number}.jpg", "sentences": sentences,
             "sent_ids": [sentence["sent_id"] for sentence in sentences]}
        )  # fmt: skip


def _drawn(rng: np.random.Generator, counts: dict[int, int]) -> int:
    weights = np.array(list(counts.values()))
    return int(rng.choice(list(counts), p=weights / weights.sum()))


def _ellipse(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """A polygon of 40 corners, as many as COCO's have."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x, y = (x0 + x1 + (x1 - x0) * np.cos(angle)) / 2, (y0 + y1 + (y1 - y0) * np.sin(angle)) / 2
    return np.stack([x, y], axis=1).ravel().round(2).tolist()


def _photo(path: Path, seed: int) -> Path:
    """Noise whose amplitude falls with the frequency, as that of photographs does."""
    rng = np.random.default_rng(seed)
    rows, cols = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    falling = 1 / np.maximum(np.hypot(rows, cols), 1 / WIDTH)
    grey = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(HEIGHT, WIDTH))) * falling, (HEIGHT, WIDTH))
    colour = cv2.resize(rng.normal(0, 25, (8, 10, 3)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pixels = 120 + 45 * (grey / grey.std())[:, :, None] + colour
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=QUALITY)
    return path


def write_checkpoint(folder: Path, shape: Shape) -> None:
    """A LLaVA of the shape's layers, heads and grid with next to no weights, its processor, and `rows.npy`: the
    attention that `metered_run` gives in its place, [layer, head, place, cell]."""
    words = {word: i for i, word in enumerate([*SPECIAL, *(f"p{place}" for place in range(PLACES))])}
    side, hidden = shape.grid * PATCH, 2 * shape.heads
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1, image_size=side,
            patch_size=PATCH, projection_dim=8,
        ),
        text_config=LlamaConfig(
            hidden_size=hidden, intermediate_size=8, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads, vocab_size=len(words), max_position_embeddings=4096, bos_token_id=0,
            eos_token_id=1,
        ),
        image_token_id=words["<image>"], image_seq_length=shape.grid**2,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    square = {"height": side, "width": side}
    images = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=square)
    LlavaProcessor(
        images, _tokenizer(words), patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    np.save(folder / "rows.npy", np.stack([_layer(shape, layer) for layer in range(shape.layers)]))


def _tokenizer(words: dict[str, int]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip


def _layer(shape: Shape, layer: int) -> Float[np.ndarray, "head place cell"]:
    """Rows as a LLaVA's look: speckle in all heads, the same few sinks throughout the layer, and in one of seven heads
    a blob where the place is, tight or wide. Between 3 and 60 % of a row's attention are on the image."""
    rng, heads, cells = np.random.default_rng([1, layer]), shape.heads, shape.grid**2
    speckle = rng.gamma(0.6, size=(heads, PLACES, cells))
    sinks = np.zeros(cells)
    sinks[rng.integers(cells, size=3)] = 1
    x0, y0, x1, y1 = place_boxes().T / WIDTH
    band = (1 - HEIGHT / WIDTH) / 2  # the image is padded to a square
    row, col = (np.indices((shape.grid, shape.grid)).reshape(2, 1, cells) + 0.5) / shape.grid
    y, x = row - band - ((y0 + y1) / 2)[:, None], col - ((x0 + x1) / 2)[:, None]
    spread = rng.uniform(0.3, 1, heads)[:, None, None]
    distance = (x / (x1 - x0)[:, None]) ** 2 + (y / (y1 - y0)[:, None]) ** 2
    blobs = np.exp(-4 * distance / spread**2)
    share = rng.uniform(0.3, 0.98, heads) * (rng.uniform(size=heads) < 1 / 7)
    share[-1] = 0.98 * (layer % 4 == 1)  # some are sure to find the object
    of_sinks = rng.uniform(0, 0.5, heads) * (1 - share)
    parts = (speckle, 1 - share - of_sinks), (blobs, share), (sinks[None, None], of_sinks)
    rows = sum(part / part.sum(-1, keepdims=True) * weight[:, None, None] for part, weight in parts)
    mass = rng.uniform(0.03, 0.35, heads) + 0.25 * share
    return (rows * mass[:, None, None]).astype(np.float32)
