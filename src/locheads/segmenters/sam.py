"""SAM: one embedding per image, prompts in batches. Three implementations of the same two steps."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from pathlib import Path
from typing import Any, assert_never

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch.nn import functional
from transformers import AutoConfig, Sam2Model, SamModel, SamProcessor
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from locheads.errors import ConfigError, ModelError, boundary
from locheads.segmenters.config import MaskChoice, PromptKind, SegmenterConfig, SegmenterKind
from locheads.segmenters.prompting import asked_again, labelled
from locheads.segmenters.sam_checkpoint import check_fit, read_meta, sam_model
from locheads.segmenters.segmenter import Prompt, Segmentation

LOGIT = 8.0
"""Of a pixel that the pseudo-mask holds, as a low-resolution mask prompt; the others have -LOGIT."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Sam(ABC):
    """What the implementations share: batches, the choice among several masks, the prompts."""

    def __init__(self, config: SegmenterConfig, device: torch.device) -> None:
        self._config, self._device = config, device

    @torch.inference_mode()
    def segment(self, image: Image.Image, prompts: Sequence[Prompt]) -> list[Segmentation]:
        """Masks in pixels of the image, in the order of the prompts."""
        if not prompts:
            return []
        embedding = self._embed(image)
        found = dict(self._round(embedding, image, enumerate(prompts)))
        for _ in range(1, self._config.rounds):
            # A mask without a pixel has no box to ask with: it stays.
            masks = {i: answer.mask for i, answer in found.items() if answer.mask.any()}
            again = [(i, asked_again(prompts[i], mask, self._config.round_margin)) for i, mask in masks.items()]
            found |= self._round(embedding, image, again)
        return [found[i] for i in range(len(prompts))]

    def _round(
        self, embedding: Any, image: Image.Image, prompts: Iterable[tuple[int, Prompt]]
    ) -> Iterator[tuple[int, Segmentation]]:
        """Numbered prompts -> their answers. A batch has equally many points in every prompt."""
        n_points = lambda item: len(item[1].positives) + len(item[1].negatives)  # noqa: E731
        for _, alike in groupby(sorted(prompts, key=n_points), n_points):
            same = list(alike)
            for start in range(0, len(same), self._config.batch):
                numbers, batch = zip(*same[start : start + self._config.batch], strict=True)
                masks, scores = self._decode(embedding, image, batch)
                # One by one: all masks of a large image at its full size would not fit.
                for i, prompt, m, s in zip(numbers, batch, masks, scores, strict=True):
                    yield i, self._best(m, s, image, prompt)

    @abstractmethod
    def _embed(self, image: Image.Image) -> Any:
        """What decoding needs of the image."""

    @abstractmethod
    def _decode(self, embedding: Any, image: Image.Image, prompts: Sequence[Prompt]) -> tuple[Any, Any]:
        """-> (low-resolution logits [prompt, mask, y, x], scores [prompt, mask])."""

    @abstractmethod
    def _upscale(self, logits: torch.Tensor, image: Image.Image) -> torch.Tensor:
        """Logits [1, 1, y, x] -> [1, 1, height, width]."""

    def _best(self, logits: torch.Tensor, scores: torch.Tensor, image: Image.Image, prompt: Prompt) -> Segmentation:
        match self._config.choice:
            case MaskChoice.score:
                best = int(scores.argmax())
            case MaskChoice.last:
                best = len(scores) - 1
            case MaskChoice.overlap:
                if prompt.mask is None:
                    raise ValueError("it has no pseudo-mask, which segmenter.choice=overlap needs")
                masks = [self._mask(each, image) for each in logits]
                best = int(np.argmax([(m & prompt.mask).sum() / max((m | prompt.mask).sum(), 1) for m in masks]))
            case _:
                assert_never(self._config.choice)
        return Segmentation(self._mask(logits[best], image), float(scores[best]))

    def _mask(self, logits: torch.Tensor, image: Image.Image) -> Bool[np.ndarray, "height width"]:
        return (self._upscale(logits[None, None], image)[0, 0] > 0).cpu().numpy()

    def _boxes(self, prompts: Sequence[Prompt]) -> Float[np.ndarray, "prompt 4"] | None:
        match self._config.prompt:
            case PromptKind.points if not prompts[0].again:
                return None
            case PromptKind.points | PromptKind.box | PromptKind.box_point | PromptKind.mask:
                return np.array([prompt.box for prompt in prompts], dtype=np.float64)
            case _:
                assert_never(self._config.prompt)

    def _points(
        self, prompts: Sequence[Prompt]
    ) -> tuple[Float[np.ndarray, "prompt n 2"], Float[np.ndarray, "prompt n"]] | tuple[None, None]:
        """With their labels."""
        return labelled(prompts) if self._config.asks_points else (None, None)

    def _masks(self, prompts: Sequence[Prompt], side: int, squash: bool) -> torch.Tensor | None:
        """Low-resolution logits [prompt, 1, side, side]."""
        if self._config.prompt != PromptKind.mask:
            return None
        logits = np.stack([_low_resolution(prompt, side, squash) for prompt in prompts])
        return torch.from_numpy(logits[:, None]).to(self._device)

    def _tensor(self, values: np.ndarray | None) -> torch.Tensor | None:
        return None if values is None else torch.as_tensor(values, dtype=torch.float32, device=self._device)

    def _whole(self, labels: np.ndarray | None) -> torch.Tensor | None:
        return None if labels is None else torch.as_tensor(labels, dtype=torch.int, device=self._device)


class OfTransformers(Sam):
    """A model of transformers. A prompt is a row of the batch, because SamModel takes one mask per row."""

    _model: Any

    def _predict(
        self,
        embedding: Any,
        boxes: np.ndarray | None,
        points: np.ndarray | None,
        labels: np.ndarray | None,
        masks: torch.Tensor | None,
    ) -> tuple[Any, Any]:
        out = self._model(
            image_embeddings=embedding,
            input_boxes=self._tensor(None if boxes is None else boxes[:, None]),
            input_points=self._tensor(None if points is None else points[:, None]),
            input_labels=self._whole(None if labels is None else labels[:, None]),
            input_masks=masks,
            multimask_output=self._config.multimask,
        )
        return out.pred_masks[:, 0], out.iou_scores[:, 0]


class SamHf(OfTransformers):
    """transformers' SamModel."""

    def __init__(self, config: SegmenterConfig, device: torch.device) -> None:
        super().__init__(config, device)
        assert config.checkpoint is not None
        model = (
            sam_model(Path(config.checkpoint), config.size)
            if config.checkpoint.endswith(".pth")
            else _pretrained(SamModel, config)
        )
        self._model = model.eval().to(device)
        side = self._side = model.config.vision_config.image_size
        self._low = 4 * side // model.config.vision_config.patch_size
        self._processor = SamProcessor(
            SamImageProcessorPil(size={"longest_edge": side}, pad_size={"height": side, "width": side})
        )

    def _embed(self, image: Image.Image) -> torch.Tensor:
        inputs = self._processor(image, return_tensors="pt")
        return self._model.get_image_embeddings(inputs["pixel_values"].to(self._device))

    def _decode(self, embedding: torch.Tensor, image: Image.Image, prompts: Sequence[Prompt]) -> tuple[Any, Any]:
        size = (image.height, image.width)
        points, labels = self._points(prompts)
        boxes, points = (
            None if found is None else self._processor._normalize_coordinates(self._side, found, size, is_box)
            for found, is_box in ((self._boxes(prompts), True), (points, False))
        )
        embeddings = embedding.expand(len(prompts), -1, -1, -1)
        return self._predict(embeddings, boxes, points, labels, self._masks(prompts, self._low, squash=False))

    def _upscale(self, logits: torch.Tensor, image: Image.Image) -> torch.Tensor:
        """To the input's size, without its bars, to the image's size: the steps of Meta's postprocess_masks."""
        factor = self._side * 1.0 / max(image.height, image.width)  # rounded as Meta's ResizeLongestSide
        height, width = int(image.height * factor + 0.5), int(image.width * factor + 0.5)
        whole = functional.interpolate(logits, (self._side, self._side), mode="bilinear", align_corners=False)
        whole = whole[..., :height, :width]
        return functional.interpolate(whole, (image.height, image.width), mode="bilinear", align_corners=False)


class SegmentAnything(Sam):
    """Meta's package."""

    def __init__(self, config: SegmenterConfig, device: torch.device) -> None:
        super().__init__(config, device)
        package = meta_package()
        assert config.checkpoint is not None
        path = Path(config.checkpoint)
        weights, model = read_meta(path, config.size), package.sam_model_registry[config.size.value](checkpoint=None)
        check_fit(path, model, weights, config.size)
        model.load_state_dict(weights, strict=True)
        self._predictor = package.SamPredictor(model.eval().to(device))

    def _embed(self, image: Image.Image) -> None:
        self._predictor.set_image(np.asarray(image))

    def _decode(self, embedding: None, image: Image.Image, prompts: Sequence[Prompt]) -> tuple[Any, Any]:
        size, to_input = (image.height, image.width), self._predictor.transform
        boxes, (points, labels) = self._boxes(prompts), self._points(prompts)
        _, scores, logits = self._predictor.predict_torch(
            self._tensor(None if points is None else to_input.apply_coords(points, size)),
            self._whole(labels),
            self._tensor(None if boxes is None else to_input.apply_boxes(boxes, size)),
            self._masks(prompts, self._predictor.model.prompt_encoder.mask_input_size[0], squash=False),
            multimask_output=self._config.multimask,
            return_logits=True,
        )
        return logits, scores

    def _upscale(self, logits: torch.Tensor, image: Image.Image) -> torch.Tensor:
        return self._predictor.model.postprocess_masks(logits, self._predictor.input_size, (image.height, image.width))


class Sam2(OfTransformers):
    """transformers' Sam2Model. The image is squashed to a square, as SAM 2's own transforms do."""

    def __init__(self, config: SegmenterConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self._model = _pretrained(Sam2Model, config).eval().to(device)
        self._side = self._model.config.prompt_encoder_config.image_size

    def _embed(self, image: Image.Image) -> list[torch.Tensor]:
        pixels = torch.from_numpy(np.array(image)).to(self._device).permute(2, 0, 1)[None].float() / 255
        size = (self._side, self._side)
        pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (torch.tensor(v, device=self._device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return self._model.get_image_embeddings((pixels - mean) / std)

    def _decode(self, embedding: list[torch.Tensor], image: Image.Image, prompts: Sequence[Prompt]) -> tuple[Any, Any]:
        factor = self._side / np.array([image.width, image.height])
        boxes, (points, labels) = self._boxes(prompts), self._points(prompts)
        return self._predict(
            [level.expand(len(prompts), -1, -1, -1) for level in embedding],
            None if boxes is None else boxes * np.tile(factor, 2),
            None if points is None else points * factor,
            labels,
            self._masks(prompts, self._model.prompt_encoder.mask_input_size[0], squash=True),
        )

    def _upscale(self, logits: torch.Tensor, image: Image.Image) -> torch.Tensor:
        return functional.interpolate(logits, (image.height, image.width), mode="bilinear", align_corners=False)


def meta_package() -> Any:
    """Meta's package. Raises ConfigError where it or torchvision, which it imports, is missing or broken."""
    needs = "segmenter=segment_anything needs the packages segment-anything and torchvision"
    hint = "run make install EXTRAS=sam, or use segmenter=sam_hf, which reads the same checkpoints without them."
    with boundary(needs, ConfigError, hint):  # a torchvision of another torch raises what its C++ part likes
        import segment_anything
    return segment_anything


def check_pretrained(config: SegmenterConfig) -> None:
    """Whether a folder or hub id is of the right family, from its configuration. Raises ModelError."""
    kind, families = (Sam2Model, ("sam2", "sam2_video")) if config.kind == SegmenterKind.sam2 else (SamModel, ("sam",))
    with _loading(kind, config):
        family = AutoConfig.from_pretrained(config.checkpoint, revision=config.revision).model_type
    if family not in families:
        raise ModelError(
            f"segmenter.checkpoint={config.checkpoint} is a '{family}' model, but segmenter={config.kind} reads "
            f"{kind.__name__} checkpoints."
        )


def _loading(kind: Any, config: SegmenterConfig) -> AbstractContextManager[None]:
    hint = f"segmenter.checkpoint must be a folder or hub id of a {kind.__name__}."
    return boundary(f"Cannot load the segmenter {config.checkpoint}", ModelError, hint)


def _pretrained(kind: Any, config: SegmenterConfig) -> Any:
    with _loading(kind, config):
        model, info = kind.from_pretrained(config.checkpoint, revision=config.revision, output_loading_info=True)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"{config.checkpoint} lacks {len(missing)} weights of a {kind.__name__}, such as {missing[0]}: it is "
            "another model."
        )
    return model


def _low_resolution(prompt: Prompt, side: int, squash: bool) -> Float[np.ndarray, "side side"]:
    """The guess as logits where the model sees the image; bars are outside the object."""
    logits = np.full((side, side), -LOGIT, dtype=np.float32)
    if prompt.mask is None:
        raise ValueError("it has no pseudo-mask, which segmenter.prompt=mask needs")
    height, width = prompt.mask.shape
    factor = side / max(height, width)
    rows, cols = (side, side) if squash else (max(round(height * factor), 1), max(round(width * factor), 1))
    share = cv2.resize(prompt.mask.astype(np.float32), (cols, rows), interpolation=cv2.INTER_AREA)
    logits[:rows, :cols] = LOGIT * (2 * share - 1)
    return logits
