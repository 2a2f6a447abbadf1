"""The formats, in the order in which a config.json is tried against them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locheads.errors import ModelError
from locheads.models.convert.formats.deepseek_vl import DEEPSEEK_VL
from locheads.models.convert.formats.internvl import INTERNVL
from locheads.models.convert.formats.llava import LLAVA
from locheads.models.convert.formats.mini_gemini import MINI_GEMINI
from locheads.models.convert.recipe import Format

FORMATS: tuple[Format, ...] = (DEEPSEEK_VL, INTERNVL, MINI_GEMINI, LLAVA)


def choose(source: Path, settings: Mapping[str, Any], name: str | None) -> Format:
    """The format of this name, or the first that the configuration fits.

    Raises:
        ModelError: an unknown name, or a configuration that no format fits.
    """
    if name is not None:
        for one in FORMATS:
            if one.name == name:
                return one
        raise ModelError(f"--format {name} is unknown: there are {', '.join(one.name for one in FORMATS)}.")
    for one in FORMATS:
        if one.fits(settings):
            return one
    kind = settings.get("model_type", "no model_type")
    raise ModelError(
        f"{source / 'config.json'} ({kind}) is of none of the formats {', '.join(one.name for one in FORMATS)}: "
        "what transformers loads needs no conversion; else choose with --format."
    )


__all__ = ["FORMATS", "choose"]
