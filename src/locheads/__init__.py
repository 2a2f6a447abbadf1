"""Visual grounding from a few attention heads of a frozen LVLM.

>>> from locheads import ground
>>> result = ground("scene.jpg", "the striped red circle")  # doctest: +SKIP
>>> result.box, result.mask, result.heatmap  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locheads.api import Grounder, ground

__all__ = ["Grounder", "ground"]


def __getattr__(name: str) -> Any:
    """Loads the library's entry points (and torch) at first use, so that `python run.py --help` stays quick."""
    if name in __all__:
        from locheads import api

        return getattr(api, name)
    raise AttributeError(f"module 'locheads' has no attribute {name!r}")
