"""The laws of prompts.sources, for every entry of the table."""

from pathlib import Path

import pytest

from pipeline.testing.prompt_sources import PromptSourceLaws
from prompts.sources import PROMPT_SOURCES, PromptSource
from prompts.sources.anchors import Anchors, AnchorsConfig
from prompts.sources.file import CaptionFile, CaptionFileConfig
from prompts.sources.programs import Programs, ProgramsConfig
from prompts.sources.shaders import Shaders, ShadersConfig

TESTED = {"file", "programs", "shaders", "anchors"}
"""A new entry of the table has to be added here, with a class below."""


def test_every_entry_is_tested() -> None:
    assert set(PROMPT_SOURCES) == TESTED


class TestCaptionFile(PromptSourceLaws):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "captions.csv"
        self.path.write_text("caption,mood,weight\na red fox,calm,0.5\na blue door,,\n")

    def make(self) -> PromptSource:
        return CaptionFile(CaptionFileConfig(file=str(self.path)))


class TestPrograms(PromptSourceLaws):
    def make(self) -> PromptSource:
        return Programs(ProgramsConfig(count=5, first=2))


class TestShaders(PromptSourceLaws):
    def make(self) -> PromptSource:
        return Shaders(ShadersConfig())


class TestAnchors(PromptSourceLaws):
    def make(self) -> PromptSource:
        return Anchors(AnchorsConfig(count=5))


class TestProgramsOfAFolder(PromptSourceLaws):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        (tmp_path / "sea.txt").write_text("f = fbm(p)\nc = ramp(f, 'ff0000 00ff00')\n")

    def make(self) -> PromptSource:
        return Programs(ProgramsConfig(folder=str(self.folder)))
