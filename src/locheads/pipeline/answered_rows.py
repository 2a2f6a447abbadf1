"""Attention from rows of the model's own answer: it is asked, and its answers go behind the prompts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from locheads.data.image_groups import subset
from locheads.errors import DataError
from locheads.models.adapters import PreparedInput
from locheads.models.answer import answer_prepared
from locheads.models.answer_rows import with_answers
from locheads.models.attend import NO_MEMORY
from locheads.models.batching import Budget
from locheads.models.load import Lvlm
from locheads.pipeline.answers import Answers
from locheads.types import Answer, Failure, ImageGroup

Prepared = tuple[ImageGroup, PreparedInput]


@dataclass(frozen=True)
class AnsweredRows:
    """Asks what is not answered, and finds the tokens that are wanted."""

    answers: Answers
    limit: int
    """Of tokens of an answer."""

    def known(self, groups: list[ImageGroup]) -> tuple[list[ImageGroup], list[Failure]]:
        """-> (what is not known to lack the wanted tokens, what is); needs no model."""
        fine, failures = [], []
        for group in groups:
            for sample in group.samples:
                said = self.answers.get(group, sample.sample_id)
                reason = None if said is None else self._lacks(said.answer)
                if reason is None:
                    fine.append(sample.sample_id)
                else:
                    failures.append(Failure(sample.sample_id, group.image_id, reason))
        return subset(groups, fine), failures

    def behind(
        self, lvlm: Lvlm, opened: Iterable[Prepared], budget: Budget, failures: list[Failure]
    ) -> Iterator[Prepared]:
        """The prompts with their answers; what has no wanted token is added to `failures`."""
        for group, prepared in opened:
            found = self._answered(lvlm, group, prepared, budget)
            reasons = [NO_MEMORY if a is None else self._lacks(a, lvlm.adapter.image_token_id) for a in found]
            failures += [
                Failure(sample.sample_id, group.image_id, reason)
                for sample, reason in zip(group.samples, reasons, strict=True)
                if reason is not None
            ]
            fine = [i for i, reason in enumerate(reasons) if reason is None]
            answers = [answer for i in fine if (answer := found[i]) is not None]
            if fine:
                (kept,) = subset([group], [group.samples[i].sample_id for i in fine])
                wanted = [self.answers.wanted(answer) for answer in answers]
                yield kept, with_answers(prepared.some(fine), answers, wanted, lvlm.adapter.answer_type)

    def _answered(self, lvlm: Lvlm, group: ImageGroup, prepared: PreparedInput, budget: Budget) -> list[Answer | None]:
        known = [self.answers.get(group, sample.sample_id) for sample in group.samples]
        found = [None if said is None else said.answer for said in known]
        missing = [i for i, answer in enumerate(found) if answer is None]
        if missing:
            new = dict(zip(missing, answer_prepared(lvlm, prepared.some(missing), self.limit, budget), strict=True))
            said = [(group.samples[i].sample_id, answer) for i, answer in new.items() if answer is not None]
            self.answers.add(group, said, prepared.geometry)
            found = [new.get(i, answer) for i, answer in enumerate(found)]
        return found

    def _lacks(self, answer: Answer, image_token: int = -1) -> str | None:
        """Why no row can be taken; None where it can."""
        try:
            self.answers.wanted(answer, image_token)
        except DataError as error:
            return str(error)
        return None
