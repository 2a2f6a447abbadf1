"""The run's outcome in plain sentences that claim no more than the intervals show."""

from dataclasses import dataclass, replace
from pathlib import Path

from locheads.dependence.word_verdict import SENTENCES, Follows
from locheads.evaluation.metric_table import ABSENT, METRIC, PRIMARY, Outputs, Unit, headline, method_label
from locheads.records.follows import FollowsRecord
from locheads.records.metrics_file import RHO, Estimate, Figure6, MetricsRecord, answered, few_mark
from locheads.report.audit_outcome import audit_outcome
from locheads.report.run_record import RunRecord

BASELINES = ("mean_of_all_heads", "random_heads", "centre_box")
"""Methods that use no ground truth; those that were chosen with it are no baselines to beat."""

MEASURED = {Outputs.BOX: "boxes", Outputs.MASK: "masks", Outputs.MAP: "heat maps"}
"""What a primary metric, or one of heat maps, compares, for the headline."""


@dataclass(frozen=True)
class Verdict:
    """`tone`: "good" (above every baseline), "bad" (above none), "mixed", or "none" (nothing to compare)."""

    tone: str
    headline: str
    points: tuple[str, ...]


def compare(ours: Estimate, other: Estimate, higher_is_better: bool = True) -> str:
    """ "above" (better) or "below" where the intervals do not overlap, else "open"."""
    if not higher_is_better:
        ours, other = other, ours
    if ours.low > other.high:
        return "above"
    return "below" if ours.high < other.low else "open"


def verdict(record: RunRecord) -> Verdict:
    """The sentences of the page's first box."""
    if record.audit is not None or not record.about_heads:
        return compared(record)
    return _with_words(compared(record), follows_of(record))


def compared(record: RunRecord) -> Verdict:
    """The same without the words: how the heads stand to the baselines, or what else the run found."""
    metrics = record.metrics
    # Known defects of the copy, boxes that stand for masks, images that are turned when shown.
    data = [f"Data: {note}" for note in record.provenance.dataset.notes]
    if metrics is not None and not record.about_heads:
        what = Path(record.external).name if record.external else "The model's own boxes"
        points = [_misses_sentence(metrics), *metrics.notes, *data]
        return Verdict("none", f"{what}, scored; no baseline stands beside it.", tuple(points))
    if record.audit is not None:
        follows = follows_of(record)
        outcome, found = audit_outcome(record.audit)
        return Verdict("none", outcome, (*found, *data, *([follows.sentence] if follows else [])))
    if metrics is None or "localization_heads" not in metrics.methods:
        return Verdict("none", "This run has no evaluation to judge.", ())
    judged = [m for m in headline(metrics.measured) if metrics.get("localization_heads", m)]
    outcomes = {metric: _outcomes(metrics, metric) for metric in judged}
    tone, sentence = _headline(outcomes)
    points = [_metric_sentence(metrics, metric, kinds) for metric, kinds in outcomes.items()]
    points += [*_with_truth_sentences(metrics), _figure6_sentence(metrics.figure6), _misses_sentence(metrics)]
    points += [*metrics.notes, *data, _scope_sentence(record, metrics)]
    return Verdict(tone, sentence, tuple(points))


def follows_of(record: RunRecord) -> FollowsRecord | None:
    """Whether the heads follow the words, as the run judged it; None where it did not."""
    judged = [found.follows for found in (record.metrics, record.heads) if found is not None]
    judged += [record.judgement.verdict] if record.judgement is not None else []
    return next((follows for follows in judged if follows is not None), None)


def _with_words(verdict: Verdict, follows: FollowsRecord | None) -> Verdict:
    """The verdict with that on the words first; heads that do not follow them are the headline, whatever they reach."""
    if follows is None:
        return verdict
    points = (f"{follows.sentence}{words_caveats(follows)}", *verdict.points)
    if follows.follows in (Follows.follow, Follows.unknown):
        return replace(verdict, points=points)
    worse = "mixed" if follows.follows in (Follows.partly, Follows.peak_only) and verdict.tone != "bad" else "bad"
    return Verdict(worse, SENTENCES[follows.follows], (points[0], verdict.headline, *verdict.points))


def words_caveats(follows: FollowsRecord) -> str:
    """What goes behind the sentence of the verdict: how the pairs were made and asked; or nothing."""
    made = (
        f" {follows.n_paraphrases} of the wordings were made by toggling an article." if follows.n_paraphrases else ""
    )
    alone = "" if follows.same_token else " Attention is averaged over tokens, which differ between the pairs."
    return made + alone


def _outcomes(metrics: MetricsRecord, metric: str) -> dict[str, str]:
    ours = metrics.get("localization_heads", metric)
    others = {b: metrics.get(b, metric) for b in BASELINES}
    better = METRIC[metric].higher_is_better
    return {name: compare(ours, other, better) for name, other in others.items() if ours and other}


def _headline(outcomes: dict[str, dict[str, str]]) -> tuple[str, str]:
    """Tone and sentence. `outcomes`: metric -> baseline -> above, below or open."""
    kinds = [kind for per_baseline in outcomes.values() for kind in per_baseline.values()]
    if not kinds:
        return "none", "This run has no baselines to compare with."
    compared = " and ".join(dict.fromkeys(MEASURED[METRIC[metric].needs] for metric in outcomes))
    if all(kind == "above" for kind in kinds):
        return "good", f"The localization heads beat every baseline that uses no ground truth, on {compared}."
    if not any(kind == "above" for kind in kinds):
        return "bad", f"The localization heads beat none of the baselines in this run, on {compared}."
    beaten = [b for b in BASELINES if all(per.get(b) == "above" for per in outcomes.values())]
    others = [b for b in BASELINES if b not in beaten and any(b in per for per in outcomes.values())]
    if not beaten:
        every = "both " if " and " in compared else "every measure of "
        return "mixed", f"The localization heads beat no baseline on {every}{compared} in this run."
    return "mixed", f"The localization heads beat {_listed(beaten)} in this run, but not {_listed(others, 'or')}."


def _listed(methods: list[str], word: str = "and") -> str:
    return _joined([method_label(m).lower() for m in methods], word)


def _joined(names: list[str], word: str = "and") -> str:
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


OUTCOME_SENTENCES = {
    "above": "That is above {}: the intervals do not overlap.",
    "below": "That is below {}: the intervals do not overlap.",
    "open": "No difference is shown from {}: the intervals overlap.",
}
MIRRORED = {"above": "below", "below": "above"}
"""Where lower is better, what beats a baseline lies below it."""


def _metric_sentence(metrics: MetricsRecord, metric: str, kinds: dict[str, str]) -> str:
    told, ours = METRIC[metric], metrics.get("localization_heads", metric)
    percent = " %" if told.unit is Unit.PERCENT else " (lower is better)" if not told.higher_is_better else ""
    parts = [f"{told.label} is {ours.text(told.unit) if ours else ABSENT}{percent}."]
    for kind, sentence in OUTCOME_SENTENCES.items():
        names = [f"{method_label(m).lower()} ({_figure(metrics, m, metric)})" for m, k in kinds.items() if k == kind]
        better = OUTCOME_SENTENCES[MIRRORED.get(kind, kind)] if not told.higher_is_better else sentence
        parts += [better.format(_joined(names))] if names else []
    return " ".join(parts)


def _figure(metrics: MetricsRecord, method: str, metric: str) -> str:
    found = metrics.get(method, metric)
    return found.text(METRIC[metric].unit) if found else ABSENT


WITH_TRUTH = {
    "best_rec_heads": "The set that a greedy search with ground truth finds on discovery samples reaches",
    "best_iou_heads": "The single heads with the best mask IoU on the discovery samples reach together",
}
RELATION = {"above": "below ours", "below": "above ours", "open": "not separated from ours"}


def _with_truth_sentences(metrics: MetricsRecord) -> list[str]:
    metric, sentences = PRIMARY[0], []
    ours = metrics.get("localization_heads", metric)
    for method, words in WITH_TRUTH.items():
        found = metrics.get(method, metric)
        if ours is not None and found is not None:
            shared = len(set(metrics.heads) & set(getattr(metrics, method)))
            sentences.append(
                f"{words} {METRIC[metric].label} {found} %, {RELATION[compare(ours, found)]}; {shared} of the "
                f"{len(metrics.heads)} localization heads are among them."
            )
    return sentences


def _figure6_sentence(check: Figure6 | None) -> str:
    if check is None or check.spearman is None or not check.defined:
        return "Whether frequent heads are good heads cannot be checked here: too few heads were chosen."
    if check.p_value is None or not check.p_value < 0.05:
        return f"Whether frequently selected heads localize better is not settled by this run ({check.text()})."
    word = "better" if check.spearman > 0 else "worse"
    paper = f"the paper reports {RHO}\u00a0>\u00a00.7 with p\u00a0<\u00a00.001"
    return f"Heads that are selected more often localize {word} ({check.text()}); {paper}."


def _misses_sentence(metrics: MetricsRecord) -> str:
    if metrics.n_failed == 0 and metrics.n_empty == 0:
        return f"All {metrics.n_expressions} expressions were processed and got a {answered(metrics)}."
    found = (
        f"Of {metrics.n_expressions} expressions, {metrics.n_failed} failed and {metrics.n_empty} got no "
        f"{answered(metrics)}; "
    )
    if "n_acc" in metrics.measured:
        return found + "both are misses, but the latter is right where nothing is named."
    return found + "they count as misses in every number here."


def _scope_sentence(record: RunRecord, metrics: MetricsRecord) -> str:
    model = record.setting("model.name") or "this model"
    data = record.setting("dataset.name") or "this data set"
    text = f"All of this is about {model} on {data} {metrics.split} with these settings, and nothing else."
    if few_mark(metrics.n_images):
        text += f" With only {metrics.n_images} images the intervals themselves are rough."
    return text
