"""What the stages of one run take: fixed before the first of them, and what failed on the way."""

from dataclasses import dataclass
from pathlib import Path

from locheads.config import Config
from locheads.discovery.headset import HeadSet
from locheads.models.identity import ModelIdentity
from locheads.pipeline.inputs import Inputs
from locheads.store.attention_store import AttentionStore
from locheads.types import ImageGroup

Failures = dict[str, str]
"""Sample id -> why it has no attention map, or no answer."""


@dataclass(frozen=True)
class Setup:
    """The inputs of the stages of a run: fixed before the first of them, and the same for every stage."""

    config: Config
    folder: Path
    inputs: Inputs
    identity: ModelIdentity
    store: AttentionStore
    digest: str
    """Of the run: see `run_digest`."""
    given_heads: HeadSet | None = None
    """The heads of heads.set; None where discovery finds them."""

    @property
    def judged_split(self) -> str:
        """Whose images `inputs.judged` are."""
        dataset = self.config.dataset
        return dataset.discovery_split if self.given_heads is None else dataset.split


def failed_in(groups: list[ImageGroup], failures: Failures) -> list[str]:
    """Ids of the samples of these images that failed."""
    return [sample.sample_id for group in groups for sample in group.samples if sample.sample_id in failures]
