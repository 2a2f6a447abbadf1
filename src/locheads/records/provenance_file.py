"""How a run went and what its figures come from: status.json, provenance.json, samples.json and timing.json."""

from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from locheads.records.record_base import Count, HeadName, Part, Record

State = Literal["running", "done", "failed"]


class StageStatus(Part):
    """One stage of a run."""

    state: State
    seconds: StrictFloat | None
    """None while it runs, or where it failed."""


class StatusFile(Record):
    """status.json: how far a run has come, and why it ended."""

    FILE: ClassVar[str] = "status.json"

    state: State
    stages: dict[str, StageStatus] = Field(default_factory=dict)
    error: str | None = None


class DataOrigin(Part):
    """The data set of a run."""

    name: str | None = None
    annotations_sha256: str | None = None
    pictures_sha256: str | None = None
    guard: dict[str, Count] = Field(default_factory=dict)
    """Guarded file, and the evaluated split -> images of the discovery split that it also holds."""
    notes: tuple[str, ...] = ()
    """Known defects of this copy."""
    split: str | None = None
    limit: StrictInt | None = None
    offset: StrictInt | None = None
    shuffle: StrictBool | None = None


class MadeWith(Part):
    """The attention maps or the answers, which may be those of an earlier run."""

    store: str
    made_with: dict[str, str | None] | str
    """Package -> version, or in words that it is not known."""
    other_versions: str | None = None
    """In what they differ from this run's."""


class GivenHeads(Part):
    """Heads that the run was given (heads.set), and did not discover."""

    set: str
    source: str
    model: str | None
    found_on: tuple[str, str] | None
    """(data set, split)."""
    heads: tuple[HeadName, ...]
    leakage: str


class Verified(Part):
    """The last verification (stage=verify) of this model, asked as in this run."""

    when: str
    """ISO time."""
    passed: Count
    failed: tuple[str, ...]
    """Names of the checks."""
    not_applicable: tuple[str, ...] | None = None
    """Names of the checks that could not be made; None of earlier versions."""


class ProvenanceFile(Record):
    """provenance.json. Empty sections are those that the run has not reached, or that its kind does not have."""

    FILE: ClassVar[str] = "provenance.json"

    commit: str | None = None
    dirty: StrictBool | None = None
    """Whether the code had uncommitted changes; None outside git."""
    diff_sha256: str | None = None
    source_sha256: str | None = None
    """Over the package's own files."""
    argv: tuple[str, ...] = ()
    versions: dict[str, str | None] = Field(default_factory=dict)
    hardware: dict[str, Any] = Field(default_factory=dict)
    started: str | None = None
    """ISO time."""
    seconds: StrictFloat | None = None
    """None until the run has ended."""
    digest: str | None = None
    """Of all that can change the result: the same for runs that have to give the same one."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Source, architecture, weights, revision."""
    verification: Verified | None = None
    """None where there was none."""
    predictions: dict[str, Any] | None = None
    """The file of predictions that was scored, its sha256 and declared format."""
    dataset: DataOrigin = DataOrigin()
    answers: MadeWith | None = None
    maps: MadeWith | None = None
    seeds: dict[str, Any] = Field(default_factory=dict)
    heads: GivenHeads | None = None
    warnings: tuple[str, ...] | None = None
    """What the run warned of, each once; None until it has ended, and of earlier versions."""


class Trial(Part):
    """One draw of discovery samples."""

    seed: tuple[StrictInt, StrictInt]
    samples: tuple[str, ...]


class Repeats(Part):
    """What occurs more than once among the evaluated samples, and in discovery as well. An image that differs in a
    single byte is another one here."""

    images: Count | None
    """Evaluated images whose file is an earlier one's to the byte; None where the files were not read."""
    seen_images: Count | None
    """Images that discovery, or the calibration of absence, saw and whose file is an evaluated one's to the byte."""
    expressions: Count
    """Evaluated expressions that name an object of an image in the words of an earlier one; case does not count."""
    ambiguous: Count
    """Evaluated expressions whose words also name another object of the same image."""


class SamplesFile(Record):
    """samples.json: the ids that the run used, in order, and what was kept out."""

    FILE: ClassVar[str] = "samples.json"

    split: str
    evaluated: tuple[str, ...]
    discovery_split: str | None = None
    trials: tuple[Trial, ...] = ()
    judged: tuple[str, ...] = ()
    """Those from whose pairs it is judged whether heads follow the words."""
    calibration: tuple[str, ...] = ()
    """Those on which the threshold of absence was worked out."""
    n_excluded_images: Count = 0
    guard: dict[str, Count] = Field(default_factory=dict)
    repeats: Repeats | None = None
    """None of earlier versions."""
    notes: tuple[str, ...] = ()


class TimedPass(Part):
    """Passes of one kind over expressions, added up. What else tells the kind from others is kept as it is."""

    model_config = ConfigDict(extra="allow")

    of: str
    """attention, second look, or answers."""
    layers: Any = None
    maps: Any = None
    device: str
    memory_of: str
    expressions: Count
    seconds: StrictFloat
    peak_bytes: Count


class TimingFile(Record):
    """timing.json. The kind of pass with most expressions comes first."""

    FILE: ClassVar[str] = "timing.json"

    passes: tuple[TimedPass, ...]
