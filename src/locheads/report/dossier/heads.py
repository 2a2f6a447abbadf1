"""The heads: whether they follow the words, and how often the same ones come again."""

from locheads.dependence.word_verdict import Follows
from locheads.evaluation.metric_table import percent
from locheads.records.heads_file import HeadsFile
from locheads.report.dossier.section import Section, Table, amount, ask, holds, unknown
from locheads.report.interval_words import level_of
from locheads.report.run_record import RunRecord
from locheads.report.tables import heads_caption, heads_rows
from locheads.report.verdict import follows_of, words_caveats

NO_HEADS = "The run is not about heads."


def words(record: RunRecord) -> Section:
    """The verdict of the run whether its heads follow the words."""
    title = "Heads and words"
    if not record.about_heads:
        return Section(title, sentences=(NO_HEADS,))
    if (found := follows_of(record)) is None:
        how = "stage=judge with heads.set=RUN_FOLDER judges it on a few images, without ground truth."
        told = f"Not checked: whether the heads follow the words. {how}"
        return Section(title, (unknown("Whether the heads follow the words."),), (told,))
    short = found.sentence.split(" Asked in other words")[0]
    outcome = {Follows.follow: holds, Follows.unknown: unknown}.get(found.follows, ask)(short)
    where = f"Judged on {amount(found.n_asked, 'image')} of {found.split}, the heads {', '.join(found.heads)} together."
    return Section(title, (outcome,), (found.sentence + words_caveats(found), where))


def support(record: RunRecord) -> Section:
    """How often the same heads come first where the images are drawn anew."""
    title, heads = "Support of the heads", record.heads
    if not record.about_heads:
        return Section(title, sentences=(NO_HEADS,))
    if record.provenance.heads is not None:
        told = "The heads were given: how often the same ones come again is in the records of the run that found them."
        return Section(title, (unknown("How often the given heads come again."),), (told,))
    if heads is None or heads.support is None:
        why = "heads.json is missing or broken" if heads is None else "heads.json is of an earlier version"
        told = f"Not recorded: how often the same heads come again where the images are drawn anew ({why})."
        return Section(title, (unknown("How often the same heads come again."),), (told,), _table(heads))
    found = heads.support
    told = (
        f"The same {amount(heads.k, 'head')} come first in {percent(found.share)} % of {found.resamples} resamples of "
        f"the images; heads are called final from {level_of(found.confidence)} on."
    )
    outcome = ask(told) if found.enough is None else holds(told)
    return Section(title, (outcome,), (told, heads_caption(heads)), _table(heads))


def _table(heads: HeadsFile | None) -> tuple[Table, ...]:
    if heads is None:
        return ()
    headings = ("Head", "Selection frequency (%)", "Mean attention sum", "IoU of its map (%)", "Dependence")
    return (Table("The localization heads, most frequent first", headings, tuple(heads_rows(heads))),)
