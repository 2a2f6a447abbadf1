"""What metrics.json says of the threshold from which on a run answers "none"."""

from typing import Annotated

from pydantic import Field, StrictFloat

from locheads.records.record_base import Count, Part

Share = Annotated[StrictFloat, Field(ge=0, le=1)]


class CalibrationPart(Part):
    """What the threshold was worked out on."""

    split: str
    rule: str
    n_images: Count
    n_targeted: Count
    n_absent: Count
    n_failed: Count
    """Expressions without maps, which no threshold can heed."""
    n_acc: Share
    """At the threshold, on these samples themselves: the share of the absent ones that are called so."""
    t_acc: Share
    auroc: dict[str, Share]
    """Of every score."""
