"""Which adapter serves which family. A new family is one file here and one line below."""

from typing import Any

from locheads.errors import ModelError
from locheads.models.adapters.base import Adapter, PreparedInput
from locheads.models.adapters.llava import LlavaAdapter

FAMILIES: dict[str, type] = {"llava": LlavaAdapter}
"""transformers' `config.model_type` -> adapter."""


def adapter_class(model_type: str, source: str) -> Any:
    """Raises ModelError for a family without an adapter."""
    if model_type not in FAMILIES:
        raise ModelError(
            f"{source} is a {model_type!r} model, which has no adapter yet (there are: {', '.join(sorted(FAMILIES))}): "
            "write src/locheads/models/adapters/NAME.py after the example of llava.py and list it in __init__.py."
        )
    return FAMILIES[model_type]


__all__ = ["FAMILIES", "Adapter", "PreparedInput", "adapter_class"]
