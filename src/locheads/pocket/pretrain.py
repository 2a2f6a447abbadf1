"""First stage: vision tower, projector and word vectors learn words together, as a real LVLM's tower came from CLIP.

An image of one object, the words of its description, no places: the mean over a few random image tokens must be close
to the vectors of these words. So every patch of an object learns to carry what the object is.
"""

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration

from locheads.pocket.batches import IDS, normalise
from locheads.pocket.forward import image_features, keep_patches
from locheads.pocket.language import SIDES, sides
from locheads.pocket.render import pad_to_square, render
from locheads.pocket.scenes import Scene, sample_scene

KEPT = 144  # image tokens that are averaged
SCALE = 4.0  # of the likeness between the average and a word vector


def words_of(scene: Scene) -> list[int]:
    """Ids of the words that describe the one object of a scene, with the sides of the image it clearly lies on."""
    item = scene.objects[0]
    words = [item.dots, item.texture, item.colour, item.shape, *(SIDES[i].split()[-1] for i in sides(scene, item))]
    return [IDS[word] for word in words]


def word_batch(seed: int, step: int, scenes: int, majority: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [b, 3, 192, 192] of scenes with one object, and the words as float [b, vocabulary], rows of sum 1."""
    seeds = np.random.default_rng([seed, step, 8]).integers(2**41, 2**42, size=scenes)
    drawn = [sample_scene(int(scene_seed), (1,)) for scene_seed in seeds]
    targets = torch.zeros(scenes, len(IDS))
    for row, scene in zip(targets, drawn, strict=True):
        row[words_of(scene)] = 1
    pixels = normalise(np.stack([pad_to_square(render(scene, majority)) for scene in drawn]))
    return pixels, targets / targets.sum(1, keepdim=True)


def word_logits(model: LlavaForConditionalGeneration, pixels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Logits [b, vocabulary] of the mean over the image tokens `kept`, int64 [b, k]."""
    mean = image_features(model, pixels, kept).float().mean(1)
    return SCALE * mean @ model.get_input_embeddings().weight.T


def word_loss(model: LlavaForConditionalGeneration, seed: int, step: int, scenes: int, device: str) -> torch.Tensor:
    """Cross entropy with the words of each image."""
    pixels, targets = word_batch(seed, step, scenes, majority=0.8)
    kept = keep_patches(scenes, KEPT, torch.Generator().manual_seed(seed * 1_000_003 + step))
    with torch.autocast(device, torch.bfloat16):
        logits = word_logits(model, pixels.to(device), kept.to(device))
    return cross_entropy(logits, targets.to(device))
