"""How answers were read: coordinates in words, and whether the model itself is read rightly."""

from datetime import UTC, datetime, timedelta

from locheads.evaluation.box_format_check import EitherReading
from locheads.evaluation.metric_table import METRIC, PRIMARY, percent
from locheads.records.provenance_file import Verified
from locheads.report.dossier.section import Outcome, Section, Table, amount, ask, holds, unknown
from locheads.report.facts import UNKNOWN
from locheads.report.run_record import RunRecord

EITHER = "Better of both readings, chosen by the true box"
UNREAD = "How coordinates in words were read, if there were any, is not known."
KNOWN_ANSWER = "known answer"
"""So begin the names of the checks of stage=verify that ask for objects whose place is known."""


def coordinates(record: RunRecord) -> Section:
    """Of answers in words: the honest figure, and beside it what comes out where the truth may choose the reading."""
    title = "Coordinates in words"
    if not record.is_direct:
        by = "from a file, by the declared convention" if record.external else "from attention maps"
        told = f"The run asked no model for boxes in words: its answers were read {by}."
        return Section(title, sentences=(told if record.config else f"Not recorded: settings. {UNREAD}",))
    if record.metrics is None:
        return Section(title, (unknown(UNREAD),), (f"Not recorded: figures (metrics.json is missing). {UNREAD}",))
    boxes, honest = record.metrics.boxes, record.metrics.get("direct_output", PRIMARY[0])
    declared = record.setting("direct.box_format", UNKNOWN)
    told = f"Every answer was read as declared (direct.box_format={declared}); the truth took no part in it."
    if boxes is None or boxes.either is None or honest is None:
        how = "Make the run again: metrics.json tells it, and the stored answers are not asked for again."
        return Section(title, (unknown("What the better of two readings of the coordinates would give."),),
                       (told, f"Not recorded: the better of two readings of the coordinates. {how}"))  # fmt: skip
    outcome = _gain(boxes.either, honest.value)
    return Section(title, (outcome,), (told, outcome.text, WHAT_IT_IS), (_readings(boxes.either, honest.text()),))


WHAT_IT_IS = (
    "Better of both is no accuracy of the model: the four numbers of an answer are read as pixels and as thousandths "
    "of the image, and the sample counts if either box hits, so that the truth chooses the convention anew for every "
    "sample. The tasks refcoco_grounding of lmms-eval score so: compare it with such figures only. They also take the "
    "best of several boxes; here the first one counts."
)


def _gain(either: EitherReading, honest: float) -> Outcome:
    best = either.either / either.n if either.n else 0.0
    told = (
        f"{METRIC[PRIMARY[0]].label} is {percent(honest)} % as declared; the better of two readings would give "
        f"{percent(best)} %, {100 * (best - honest):+.1f} points."
    )
    return ask(told) if best > honest + 1e-9 else holds(told)


def _readings(either: EitherReading, honest: str) -> Table:
    rows = {"Pixels of the image": either.pixels, "Thousandths of the image": either.thousandths, EITHER: either.either}
    found = [(name, f"{n:,} of {either.n:,}", percent(n / either.n) if either.n else "-") for name, n in rows.items()]
    of = amount(either.n, "expression")
    caption = f"{METRIC[PRIMARY[0]].label} in percent by how the numbers are read (xyxy), of {of}"
    return Table(caption, ("Reading", "Hits", "Percent"), (("As declared: the honest figure", "", honest), *found))


def verification(record: RunRecord) -> Section:
    """The last stage=verify of the model, asked as in this run, and how old it was."""
    title, provenance = "Verification", record.provenance
    if record.external:
        return Section(title, sentences=("A file was scored: the run asked no model.",))
    if (verified := provenance.verification) is None:
        how = "stage=verify with the settings of this run tells whether the model is read rightly."
        asked = "verification" in provenance.model_fields_set
        why = "Not checked by the time of the run" if asked else "Not recorded"
        told = f"{why}: whether this model, asked as here, is read rightly (prompt, geometry, attention, known answer)."
        return Section(title, (unknown("Whether the model is read rightly (stage=verify)."),), (told, how))
    outcomes, checked = _checks(verified)
    return Section(title, tuple(outcomes), (*checked, _age(verified.when, provenance.started)))


def _checks(verified: Verified) -> tuple[list[Outcome], list[str]]:
    told = [f"stage=verify passed {amount(verified.passed, 'check')} of this model, asked as in this run."]
    outcomes = [holds(told[0])]
    if verified.failed:
        told.append(f"These checks failed: {', '.join(verified.failed)}.")
        outcomes = [ask(f"stage=verify failed: {', '.join(verified.failed)}.")]
    if verified.not_applicable is None:
        return outcomes, [*told, "Not recorded: which checks could not be made, the known answer among them."]
    if left := verified.not_applicable:
        told.append(f"Not checked, because it could not be: {', '.join(left)}.")
    if any(name.startswith(KNOWN_ANSWER) for name in left):
        return [*outcomes, unknown("Whether known heads find objects whose place is known (known answer).")], told
    ended = "failed" if any(name.startswith(KNOWN_ANSWER) for name in verified.failed) else "passed"
    return outcomes, [*told, f"The known answer (known heads, objects whose place is known) {ended}."]


def _age(when: str, started: str | None) -> str:
    """From the records' own times, never from today's."""
    checked, began = _time(when), _time(started)
    if checked is None or began is None:
        return f"It was made on {when}; how old it was at the time of the run is not recorded."
    days, rest = divmod(max(began - checked, timedelta()), timedelta(days=1))
    age = amount(days, "day") if days else amount(rest // timedelta(hours=1), "hour")
    return f"It was made on {when}, {age} before the run."


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
