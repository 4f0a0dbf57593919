"""The laws of prompt sources (`prompts.sources`) as tests for any prompt source."""

import random
from abc import ABC, abstractmethod

import numpy as np
import pytest

from manifests.columns import DeclaredColumn, require_values
from manifests.ids import canonical_text
from prompts.sources import PromptSource

_COLUMNS = (
    DeclaredColumn("mood", "string", "a text", scope="subject"),
    DeclaredColumn("weight", "double", "a number", scope="subject"),
)


class PromptSourceLaws(ABC):
    """Subclass it as `class TestMine(PromptSourceLaws)` and say how your source is made."""

    @abstractmethod
    def make(self) -> PromptSource:
        """A new source at each call, always of the same few subjects."""

    @pytest.mark.parametrize("columns", [(), _COLUMNS], ids=["no columns", "two columns"])
    def test_the_same_subjects_in_the_same_order(self, columns: tuple[DeclaredColumn, ...]) -> None:
        assert list(self.make().subjects(columns)) == list(self.make().subjects(columns))

    def test_there_is_a_subject_and_each_has_a_text(self) -> None:
        subjects = list(self.make().subjects(()))
        assert subjects
        assert all(canonical_text(subject.text) and subject.kind for subject in subjects)

    @pytest.mark.parametrize("columns", [(), _COLUMNS], ids=["no columns", "two columns"])
    def test_each_subject_has_the_values_of_the_declared_columns(
        self, columns: tuple[DeclaredColumn, ...]
    ) -> None:
        for subject in self.make().subjects(columns):
            require_values(subject.values, columns, what=subject.text)

    def test_the_global_random_state_is_untouched(self) -> None:
        random.seed(1)
        np.random.seed(1)
        before = random.getstate(), repr(np.random.get_state())
        list(self.make().subjects(()))
        assert (random.getstate(), repr(np.random.get_state())) == before
