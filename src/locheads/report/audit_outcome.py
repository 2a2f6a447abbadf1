"""What an audit found, in plain sentences that claim no more than the intervals show."""

from collections.abc import Iterable, Sequence

from locheads.evaluation.intervals import POINT
from locheads.evaluation.metric_table import METRIC, PRIMARY, percent
from locheads.records.audit_file import AuditDifference, AuditedChoice, AuditFile, AuditTarget, JointDifference
from locheads.records.metrics_file import Estimate, few_mark
from locheads.report.interval_words import level_of

NAMED = 6
"""Options that a sentence names, the others are counted."""
TELLING = 0.95
"""What more of all readings share is not worth saying of the compatible ones."""
NO_EVIDENCE = (
    "That a reading is compatible, or the closest, is no evidence that the authors did it: it says what their figures "
    "do not rule out."
)


def audit_outcome(audit: AuditFile) -> tuple[str, tuple[str, ...]]:
    """(headline, sentences): which choices matter and by how much, which do not, what the best reading is worth where
    it had no say, and what is compatible with the targets."""
    return _headline(audit), (*_options(audit), *_best(audit), *_targets(audit), _scope(audit))


def joint_ends(found: JointDifference) -> tuple[float, float] | None:
    """The interval that holds together with all others; of earlier versions the difference's own. None where the
    combination failed."""
    ends = (found.joint_low, found.joint_high) if found.joint_low is not None else (found.low, found.high)
    return None if None in ends else ends  # type: ignore[return-value]


def effects_by(audit: AuditFile, metric: str) -> dict[str, list[tuple[AuditedChoice, JointDifference]]]:
    """Option -> its values that could be measured, with their differences; the option with the largest first."""
    found: dict[str, list[tuple[AuditedChoice, JointDifference]]] = {}
    for row in audit.effects:
        difference = row.metrics[metric].difference if metric in row.metrics else None
        if difference is not None and difference.value is not None and joint_ends(difference) is not None:
            found.setdefault(row.option, []).append((row, difference))
    return dict(sorted(found.items(), key=lambda item: -max(abs(d.value or 0) for _, d in item[1])))


def is_clear(found: JointDifference) -> bool:
    """Whether the interval that holds together with all others leaves out zero."""
    ends = joint_ends(found)
    return ends is not None and (ends[0] > 0 or ends[1] < 0)


def _is_small(found: JointDifference) -> bool:
    ends = joint_ends(found)
    return ends is not None and ends[0] > -POINT and ends[1] < POINT


def _moving(audit: AuditFile, metric: str) -> dict[str, tuple[AuditedChoice, JointDifference]]:
    """Options that surely move the metric -> the value that moves it most, of those that surely do."""
    clear = {o: [pair for pair in rows if is_clear(pair[1])] for o, rows in effects_by(audit, metric).items()}
    return {o: max(rows, key=lambda pair: abs(pair[1].value or 0)) for o, rows in clear.items() if rows}


def _headline(audit: AuditFile) -> str:
    metric = PRIMARY[0]
    moving, options = _moving(audit, metric), effects_by(audit, metric)
    name = METRIC[metric].label
    if not moving:
        return f"None of {len(options)} options alone surely moves {name}."
    option, (row, found) = max(moving.items(), key=lambda item: abs(item[1][1].value or 0))
    return (
        f"{len(moving)} of {len(options)} options alone surely move {name}, most of all {option}={row.value}: "
        f"{_points(audit, found)} points."
    )


def _options(audit: AuditFile) -> list[str]:
    sentences = []
    for metric in PRIMARY:
        moving, name = _moving(audit, metric), METRIC[metric].label
        rest = {o: [found for _, found in rows] for o, rows in effects_by(audit, metric).items() if o not in moving}
        small = [o for o, found in rest.items() if all(map(_is_small, found))]
        same = [o for o, found in rest.items() if o not in small and not any(one.value for one in found)]
        open_ = [o for o in rest if o not in small and o not in same]
        told = [f"{o}={row.value} ({_points(audit, d)})" for o, (row, d) in moving.items()]
        sentences += [f"{name} is surely moved by {_some(told)}."] if told else []
        sentences += [f"Less than a point of {name}, up or down, hangs on {_some(small)}."] if small else []
        sentences += [f"Here {name} is the same with every value of {_some(same)}."] if same else []
        sentences += [f"These images do not settle whether {name} hangs on {_some(open_)}."] if open_ else []
    sentences += [f"{row.option}={row.value} could not be measured: {row.error}" for row in audit.effects if row.error]
    if audit.joint_confidence:
        each = 100 * audit.joint_confidence[PRIMARY[0]]
        sentences.append(
            f"These intervals hold for all {audit.n_choices} combinations at once with {level_of(audit.confidence)}; "
            f"each by itself is one of {each:.2f} %. Of so many, some intervals of {level_of(audit.confidence)} would "
            "leave out zero by chance."
        )
    return sentences


def _best(audit: AuditFile) -> list[str]:
    best = audit.best[0] if audit.best else None
    if best is None or (found := best.confirmed) is None or best.picked is None:
        return []
    name = METRIC[audit.metric].label
    lead = "" if found.difference is None else f", {_points(audit, found.difference)} points from this run's settings"
    sentences = [
        f"The best of {audit.n_choices} combinations by {name} on {audit.n_images - (audit.n_confirming or 0)} of the "
        f"images ({best.changes}) reaches {percent(best.picked)} there, and {_text(audit, found)} on the "
        f"{audit.n_confirming} others, which had no say{lead}."
    ]
    if audit.again is not None:
        sentences.append(
            f"A random half of the images picks the combination that is best on all in {100 * audit.again.best:.0f} % "
            f"of {audit.again.splits} splits."
        )
    return sentences


def _targets(audit: AuditFile) -> list[str]:
    if audit.n_compatible is None:
        return []
    n, all_ = audit.n_compatible, audit.n_choices - audit.n_failed_choices
    first = audit.targets[0]
    each = [f"{target_text(target)}: {target.alone} by itself" for target in audit.targets]
    if len(audit.targets) == 1:
        sentences = [f"{n} of {all_} combinations are compatible with {target_text(first)}."]
    else:
        sentences = [f"{n} of {all_} combinations are compatible with all {len(each)} targets ({_some(each)})."]
    if n == 0:
        return [*sentences, "What gave these figures is none of the combinations that were tried, on data like these."]
    shared = [f"{c.option}={c.value}" for c in audit.in_common if c.members == n and c.readings < TELLING * all_]
    sentences += [f"All of them have {_some(shared)} in common."] if shared and n > 1 else []
    if len(audit.targets) == 1 and n > 1:
        sentences.append("One figure cannot identify one of hundreds; more make the set smaller (audit.targets, "
                         "audit.paper, audit.beside).")  # fmt: skip
    sentences.append(NO_EVIDENCE + _closest(audit, first))
    return sentences


def _closest(audit: AuditFile, target: AuditTarget) -> str:
    if audit.again is None or audit.again.closest is None:
        return ""
    return (
        f" The closest to {target_text(target)} on all images ({audit.closest[0].changes}) is the closest on a random "
        f"half of them in {100 * audit.again.closest:.0f} % of {audit.again.splits} splits."
    )


def target_text(target: AuditTarget) -> str:
    """REC Acc@0.5 = 86.5 on refcoco val."""
    settings = f" with {target.settings}" if target.settings else ""
    return f"{METRIC[target.metric].label} = {percent(target.value)} on {target.split}{settings}"


def _scope(audit: AuditFile) -> str:
    base = f" These settings themselves contradict the paper: {_some(audit.base_contradicts)}."
    return (
        "Every option was changed around this run's settings; what matters there need not matter elsewhere, nor for "
        f"another model.{base if audit.base_contradicts else ''}"
    )


def _points(audit: AuditFile, found: AuditDifference) -> str:
    """With the interval that holds together with all others, where there is one."""
    ends = joint_ends(found) if isinstance(found, JointDifference) else None
    low, high = ends or (found.low, found.high)
    shown = Estimate(found.value, low, high, few_mark(audit.n_images))  # type: ignore[arg-type]
    return shown.text(METRIC[PRIMARY[0]].unit, sign="+")


def _text(audit: AuditFile, found: AuditDifference) -> str:
    return str(Estimate(found.value, found.low, found.high, few_mark(audit.n_confirming or 0)))  # type: ignore[arg-type]


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown: Sequence[str] = names[:NAMED] if len(names) > NAMED + 1 else names
    rest = [f"{len(names) - len(shown)} more"] if len(shown) < len(names) else []
    parts = [*shown, *rest]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
