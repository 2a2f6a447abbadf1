"""A figure that a reading must give."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Target:
    """A figure of a metric, measured by a reading once these settings are changed, too."""

    metric: str
    value: float
    """In [0, 1]."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted name -> value: what the figure was measured with, whatever the reading (heads.k of Table 4)."""
    source: str = ""

    @property
    def changed(self) -> str:
        """The settings as text."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())
