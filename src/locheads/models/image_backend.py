"""Which form of an image processor makes the pixels, PIL's or torchvision's: the checkpoint's own, or one by name.

transformers has most image processors twice, and their pixels differ: docs/models.md says by how much.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as FORMS

from locheads.models.config import ImageBackend
from locheads.settings import require
from locheads.store.atomic import write_json

PIL, TORCHVISION = ImageBackend.pil, ImageBackend.torchvision
INSTALL = "make install EXTRAS=families brings it"


@dataclass(frozen=True)
class Choice:
    """Of an image processor that transformers knows."""

    own: ImageBackend
    """The form that the checkpoint was made with."""
    taken: ImageBackend

    def warning(self, wanted: ImageBackend, source: str) -> str | None:
        """The sentence for who gets another form than the checkpoint's own without having named it."""
        if wanted != ImageBackend.own or self.own == self.taken:
            return None
        return (
            f"The image processor of {source} is, by its folder, torchvision's, which is not installed: PIL's makes "
            f"the pixels, which differ a little; {INSTALL}, and model.image_backend=pil means PIL's."
        )


def choose(wanted: ImageBackend, settings: dict[str, Any], nested: bool, family: str, installed: bool) -> Choice | None:
    """The form to take; None for an image processor that transformers does not know: it comes as its author has it.

    Args:
        wanted: `model.image_backend`.
        settings: of the image processor, as the checkpoint's folder has them.
        nested: they lie in processor_config.json, where transformers 5 puts them.
        family: the checkpoint's model_type.
        installed: whether torchvision is there.

    Raises:
        ConfigError: the form that is wanted by name does not exist, or cannot run here.
    """
    kind = _kind(settings, family)
    forms = _forms(kind)
    named = wanted != ImageBackend.own
    absent = f"transformers has no such form of {kind or 'its image processor'}: use own."
    require(
        (not named or wanted in forms, f"model.image_backend={wanted}: {absent}"),
        (wanted != TORCHVISION or installed, f"model.image_backend={wanted} needs the package torchvision: {INSTALL}."),
    )
    if not forms:
        return None
    own = own_backend(kind, nested, forms)
    asked = wanted if named else own
    return Choice(own, asked if installed or PIL not in forms else PIL)


def own_backend(kind: str, nested: bool, forms: dict[str, str]) -> ImageBackend:
    """What the checkpoint was made with, by the name of its image processor's class and where that stands."""
    if len(forms) == 1:
        return ImageBackend(*forms)
    if kind.endswith(("Fast", "Pil")):
        return PIL if kind.endswith("Pil") else TORCHVISION
    # transformers 5 leaves the ending out, and takes torchvision's where that is installed.
    return TORCHVISION if nested else PIL


def _kind(settings: dict[str, Any], family: str) -> str:
    """The class, as the settings name it; where they do not, the family's."""
    former = str(settings.get("feature_extractor_type", "")).replace("FeatureExtractor", "ImageProcessor")
    usual = FORMS.get(family, {})
    return str(settings.get("image_processor_type") or former or usual.get(TORCHVISION) or usual.get(PIL) or "")


def _forms(kind: str) -> dict[str, str]:
    """Backend -> class of this image processor; empty for one that transformers does not know."""
    plain = kind.removesuffix("Fast")
    found: dict[str, str] = next((forms for forms in FORMS.values() if plain in forms.values()), {})
    return {backend: name for backend, name in found.items() if name and backend in (PIL, TORCHVISION)}


def save_processor(processor: Any, folder: Path) -> None:
    """As its save_pretrained, and with the ending that says that PIL's form is the checkpoint's own, where it is."""
    processor.save_pretrained(folder)
    file, images = folder / "processor_config.json", processor.image_processor
    settings = json.loads(file.read_text())
    settings["image_processor"]["image_processor_type"] = type(images).__name__
    write_json(file, settings)
