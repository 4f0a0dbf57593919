from typing import ClassVar, Protocol

import pytest

from manifests.foundation.errors import PluginError
from manifests.foundation.plugins import Entry, load_plugin
from tests.sets import refused


class Greeter(Protocol):
    """The protocol of the plug-ins in these tests."""

    language: ClassVar[str]

    def greet(self, name: str) -> str: ...


class English:
    language = "en"

    def greet(self, name: str) -> str:
        return f"hello {name}"


class Silent:
    language = ""


TABLE = {
    "english": Entry(f"{__name__}:English", "pipeline"),
    "needy": Entry("no_such_package.module:Needy", "pipeline"),
}


def test_an_entry_is_loaded_by_name_and_anything_else_by_its_dotted_path() -> None:
    for name in ("english", f"{__name__}:English"):
        assert load_plugin("greeter", TABLE, name, Greeter)().greet("you") == "hello you"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("englsh", ["no greeter 'englsh'", "did you mean 'english'"]),
        (f"{__name__}:Silent", ["is no greeter, it has no greet", "Greeter"]),
        ("json:JSONDecoder", ["is no greeter, it has no greet, language"]),
        ("os:system", ["is a builtin_function_or_method, not a class"]),
        ("os:no_such_thing", ["os:no_such_thing", "no_such_thing"]),
        ("no_such_module:X", ["no module no_such_module", "PYTHONPATH"]),
        ("needy", ["no module no_such_package"]),
    ],
)
def test_what_is_no_plugin_is_refused_in_one_line(name: str, parts: list[str]) -> None:
    with refused(PluginError, *parts):
        load_plugin("greeter", TABLE, name, Greeter)
