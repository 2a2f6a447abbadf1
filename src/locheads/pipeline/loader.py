"""Loads the LVLM for whoever needs it, at the latest moment."""

import logging
from typing import TYPE_CHECKING

from locheads.config import Config

if TYPE_CHECKING:
    from locheads.models.load import Lvlm

log = logging.getLogger(__name__)


class Loader:
    """Loads the LVLM when it is first needed, and again only if more of its layers are."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lvlm: Lvlm | None = None
        self._layers: int | None = 0

    def get(self, layers: int | None) -> "Lvlm":
        """The model with at least its first `layers` decoder layers; None: with all. Raises as `load_lvlm`."""
        enough = self._layers is None or (layers is not None and layers <= self._layers)
        if self._lvlm is None or not enough:
            # Imported late: torch and transformers take seconds.
            from locheads.models.load import load_lvlm

            log.info("Loading %s.", self._config.model.id)
            self._lvlm = None  # not both at once in memory
            self._lvlm, self._layers = load_lvlm(self._config.model, self._config.engine, layers), layers
        return self._lvlm
