"""`python -m locheads.segmenters sam_hf --checkpoint sam_vit_b_01ec64.pth --size vit_b`: does SAM work here?

Segments an image with a known object by its box, and says how well the mask covers it.
"""

import argparse
import sys

import numpy as np
from jaxtyping import Bool
from PIL import Image

from locheads.errors import LocHeadsError, print_error
from locheads.models.engine import EngineConfig
from locheads.segmenters.config import SamSize, SegmenterConfig, SegmenterKind
from locheads.segmenters.load_segmenter import check_segmenter, load_segmenter
from locheads.segmenters.segmenter import Prompt

BLIND = (SegmenterKind.none, SegmenterKind.box)
ENOUGH = 0.9
"""IoU with the true ellipse. Weights that are not carried over right find nothing like it."""


def known_image() -> tuple[Image.Image, Bool[np.ndarray, "height width"]]:
    """A red ellipse on a blue and green gradient with noise, 640 x 480, and its mask."""
    y, x = np.mgrid[:480, :640]
    mask = ((x - 250) / 120) ** 2 + ((y - 220) / 80) ** 2 < 1
    pixels = np.stack([np.full(mask.shape, 40.0), 80 + 100 * x / 640, 120 + 100 * y / 480], axis=-1)
    pixels[mask] = (210, 40, 50)
    pixels += np.random.default_rng(0).normal(0, 6, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), mask


def main(arguments: list[str] | None = None) -> int:
    """-> 0 where the mask covers the object, 1 where not or where SAM cannot be loaded."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.kind in BLIND:
        parser.error(f"{options.kind} does not look at the image: there is nothing to check")
    image, true = known_image()
    try:
        config = SegmenterConfig(
            kind=options.kind,
            checkpoint=options.checkpoint,
            revision=options.revision,
            size=SamSize(options.size),
        )
        check_segmenter(config)
        segmenter = load_segmenter(config, EngineConfig(device=options.device))
    except LocHeadsError as error:
        return print_error(error)
    assert segmenter is not None
    (answer,) = segmenter.segment(image, [Prompt((130.0, 140.0, 370.0, 300.0))])
    iou = float((answer.mask & true).sum() / (answer.mask | true).sum())
    score = "" if answer.score is None else f", its own score {answer.score:.3f}"
    verdict = "as it should be" if iou >= ENOUGH else f"too low (at least {ENOUGH} is expected): wrong weights?"
    print(f"IoU of the mask with the known ellipse: {iou:.3f}{score}: {verdict}")
    return 0 if iou >= ENOUGH else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m locheads.segmenters", description=__doc__)
    kinds = ", ".join(kind for kind in SegmenterKind if kind not in BLIND)
    parser.add_argument("kind", help=f"{kinds}, or a class of your own as package.module:Class")
    parser.add_argument("--checkpoint", help=".pth file, folder or hub id")
    parser.add_argument("--revision", help="commit of the hub repository")
    parser.add_argument("--size", choices=[size.value for size in SamSize], default="vit_h", help="of a .pth file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


if __name__ == "__main__":
    sys.exit(main())
