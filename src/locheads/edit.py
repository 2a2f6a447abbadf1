"""`python -m locheads.edit IMAGE "the red circle" --recolour green`, or with a diffusers pipeline of yours
`--prompt "a green triangle" --pipeline FOLDER_OR_ID`: what the expression names is edited, the rest of the image stays.

The mask is the pseudo-mask of the answered box, or a segmenter's. It may grow (`--dilate`), and its edge fade out
(`--feather`); beyond both, no pixel is touched.
"""

import argparse
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageColor

from locheads.errors import ConfigError, DataError, LocHeadsError, ModelError, boundary, print_error
from locheads.settings import require
from locheads.types import Grounding

MISSING = "--prompt needs diffusers, which is not installed: run make install EXTRAS=edit, or use --recolour."
STEP = 8
"""Sides that a latent diffusion model takes are multiples of so many pixels."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def dilated(mask: Bool[np.ndarray, "height width"], pixels: float) -> Bool[np.ndarray, "height width"]:
    """With every pixel no further than `pixels` from one of the mask's, from centre to centre."""
    return _distance(mask) <= pixels


def feathered(mask: Bool[np.ndarray, "height width"], pixels: int) -> Float[np.ndarray, "height width"]:
    """How much of the edit each pixel shows: 1 on the mask, and around it less with every pixel of distance, in even
    steps to 0 at `pixels` + 1."""
    return np.clip(1 - _distance(mask) / (pixels + 1), 0, 1)


def _distance(mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Of each pixel to the mask's nearest, 0 on it; without any infinity."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)


def recoloured(
    image: Image.Image, mask: Bool[np.ndarray, "height width"], colour: tuple[int, int, int], feather: int = 0
) -> Image.Image:
    """What the mask holds in this colour (RGB), its texture kept: in CIELAB every pixel takes the colour's hue and
    chroma, and its lightness is moved by as much as brings the mean of the mask to the colour's."""
    if not mask.any():
        return image.copy()
    lab = cv2.cvtColor(np.asarray(image).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    target = cv2.cvtColor(np.array([[colour]], dtype=np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    lab[..., 1:] = target[1:]
    lab[..., 0] = np.clip(lab[..., 0] + target[0] - lab[..., 0][mask].mean(), 0, 100)
    edited = 255 * np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)
    return _blended(image, edited, feathered(mask, feather))


def inpainted(
    image: Image.Image,
    mask: Bool[np.ndarray, "height width"],
    prompt: str,
    pipeline: Callable[..., Any],
    *,
    feather: int = 0,
    side: int = 512,
    **options: Any,
) -> Image.Image:
    """What a diffusers inpainting pipeline puts in the mask's place.

    The pipeline is given the image and the mask (white: to be painted) with a long side of at most `side` pixels, in
    multiples of STEP; its answer comes back to the image's size, and is taken where the mask is and as far as it fades.
    `options`: what the pipeline is called with besides.
    """
    factor = min(1.0, side / max(image.size))
    width, height = (max(STEP, round(length * factor / STEP) * STEP) for length in image.size)
    holes = Image.fromarray(mask.astype(np.uint8) * 255)
    with boundary("The pipeline cannot inpaint the image", ModelError, "choose a pipeline for inpainting."):
        answer = pipeline(
            prompt=prompt,
            image=image.resize((width, height), Image.Resampling.LANCZOS),
            mask_image=holes.resize((width, height), Image.Resampling.NEAREST),
            width=width,
            height=height,
            **options,
        ).images[0]
    edited = answer.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
    return _blended(image, np.asarray(edited, dtype=np.float64), feathered(mask, feather))


def _blended(image: Image.Image, edited: np.ndarray, alpha: Float[np.ndarray, "height width"]) -> Image.Image:
    weight = alpha[..., None]
    pixels = (1 - weight) * np.asarray(image, dtype=np.float64) + weight * edited
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def load_pipeline(name: str, revision: str | None, device: str) -> Callable[..., Any]:
    """A diffusers pipeline for inpainting, from a folder or a hub id: safetensors only, and no code of the repository.

    Raises ConfigError without diffusers, ModelError where the pipeline cannot be loaded.
    """
    import torch

    from locheads.models.placement import pick_device

    found = pick_device(device)
    with boundary(f"The pipeline {name} cannot be loaded", ModelError, "give a folder or hub id of an inpainting one."):
        pipeline = _diffusers().AutoPipelineForInpainting.from_pretrained(
            name,
            revision=revision,
            torch_dtype=torch.float32 if found.type == "cpu" else torch.float16,
            use_safetensors=True,
        )
        return pipeline.to(found)


def _diffusers() -> Any:
    try:
        import diffusers  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ConfigError(MISSING) from None
    return diffusers


def main(arguments: list[str] | None = None) -> int:
    """-> 0, or 1 after a mistake, said in one sentence."""
    options = _parser().parse_args(arguments)
    try:
        print(_edit(options))
    except LocHeadsError as error:
        return print_error(error)
    return 0


def _edit(options: argparse.Namespace) -> str:
    """Writes the edited image; gives the sentence that says so. What can be wrong is looked at before a model loads."""
    from locheads.data.arrays import as_image
    from locheads.models.engine import EngineConfig
    from locheads.segmenters.config import SamSize, SegmenterConfig
    from locheads.segmenters.load_segmenter import check_segmenter

    _check(options)
    colour = None if options.recolour is None else _colour(options.recolour)
    segmenter = SegmenterConfig(kind=options.segmenter, checkpoint=options.checkpoint, size=SamSize(options.size))
    check_segmenter(segmenter)
    image = as_image(options.image)
    if colour is None:
        _diffusers()
    mask = dilated(_mask(options, image, segmenter, EngineConfig(device=options.device)), options.dilate)
    edited = _by_pipeline(options, image, mask) if colour is None else recoloured(image, mask, colour, options.feather)
    _write(edited, options.out)
    return f"Wrote {options.out}: {int(mask.sum()):,} pixels are what {options.expression!r} names."


def _check(options: argparse.Namespace) -> None:
    out = Path(options.out)
    require(
        (
            (options.prompt is None) != (options.recolour is None),
            "Say what is to be done: either --recolour COLOUR, or --prompt TEXT with --pipeline.",
        ),
        (
            options.prompt is None or options.pipeline is not None,
            "--prompt needs --pipeline: the folder or hub id of a diffusers pipeline for inpainting.",
        ),
        (options.dilate >= 0 and options.feather >= 0, "--dilate and --feather are numbers of pixels, 0 or more."),
        (options.side >= 64 and options.steps >= 1, "--side must be at least 64 pixels and --steps at least 1."),
        (out.suffix.lower() in SUFFIXES, f"--out {out} must end with one of {', '.join(SUFFIXES)}."),
        (
            out.resolve() != Path(options.image).resolve(),
            f"--out {out} is the image itself, which would be lost: name another file.",
        ),
    )


def _colour(text: str) -> tuple[int, int, int]:
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise ConfigError(f"--recolour {text} is no colour: write its name or #RRGGBB, such as green.") from None
    return red, green, blue


def _mask(options: argparse.Namespace, image: Image.Image, segmenter: Any, engine: Any) -> Bool[np.ndarray, "y x"]:
    """Raises DataError where nothing stands out."""
    from locheads.api import Grounder
    from locheads.grounding.config import GroundingConfig, MaskRule
    from locheads.segmenters.load_segmenter import load_segmenter
    from locheads.segmenters.prompting import prompt_of

    # The cells of other components are not what the box is around.
    grounder = Grounder(
        options.model, options.heads, grounding=GroundingConfig(mask=MaskRule.box_cells), device=options.device
    )
    found: Grounding = grounder(image, options.expression)
    if found.box is None or not found.mask.any():
        raise DataError(f"No part of {options.image} stands out for {options.expression!r}: name something else.")
    if (loaded := load_segmenter(segmenter, engine)) is None:
        return found.mask
    (answer,) = loaded.segment(image, [prompt_of(segmenter, found.box, image.size, mask=found.mask)])
    if not answer.mask.any():
        raise DataError(f"The segmenter finds nothing in the box of {options.expression!r}: try another --segmenter.")
    return answer.mask


def _by_pipeline(options: argparse.Namespace, image: Image.Image, mask: Bool[np.ndarray, "y x"]) -> Image.Image:
    import torch

    more = {"num_inference_steps": options.steps, "generator": torch.Generator().manual_seed(options.seed)}
    pipeline = load_pipeline(options.pipeline, options.revision, options.device)
    return inpainted(image, mask, options.prompt, pipeline, feather=options.feather, side=options.side, **more)


def _write(image: Image.Image, path: str) -> None:
    from locheads.store.atomic import write_bytes

    content = BytesIO()
    image.save(content, Image.registered_extensions()[Path(path).suffix.lower()])
    write_bytes(Path(path), content.getvalue())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m locheads.edit", description="Edit what an expression names.")
    parser.add_argument("image")
    parser.add_argument("expression")
    parser.add_argument("--recolour", metavar="COLOUR", help="its name or #RRGGBB; needs no further model")
    parser.add_argument("--prompt", help="what is to be there instead")
    parser.add_argument("--pipeline", help="of diffusers, for inpainting: a folder or hub id")
    parser.add_argument("--revision", help="commit of the pipeline's hub repository")
    parser.add_argument("--out", default="edited.png")
    parser.add_argument("--dilate", type=float, default=0.0, help="pixels by which the mask grows (default: 0)")
    parser.add_argument("--feather", type=int, default=0, help="pixels over which its edge fades out (default: 0)")
    parser.add_argument("--segmenter", default="none", help="none (the pseudo-mask), box, grabcut, sam_hf, sam2, ...")
    parser.add_argument("--checkpoint", help="of SAM: .pth file, folder or hub id")
    parser.add_argument("--size", choices=["vit_b", "vit_l", "vit_h"], default="vit_h", help="of a .pth file of SAM")
    parser.add_argument("--model", help="of conf/model, a hub id or a folder (default: that of the heads, else pocket)")
    parser.add_argument("--heads", help="heads.json of a run with the model, or names: L14H24,L14H13,L14H26")
    parser.add_argument("--side", type=int, default=512, help="pixels of the long side for the pipeline (default: 512)")
    parser.add_argument("--steps", type=int, default=30, help="of denoising (default: 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


if __name__ == "__main__":
    sys.exit(main())
