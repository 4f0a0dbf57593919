"""The card of an exported model says what run and set say, without any markup of theirs."""

import yaml

from trainer.model_card import model_card
from trainer.models.specs import EncoderSpec
from trainer.origin import Origin, SetFacts

FACTS = SetFacts(
    renderer="text-to-image",
    model="easel",
    revision="abc",
    num_subjects=1003,
    views_per_subject=4,
    num_images=4009,
    licences=(("CC0-1.0", 1000), ("<b>|x|\n[y](z)", 2), ("", 1)),
)


def card(facts: SetFacts | None) -> str:
    origin = Origin(
        objective="stablerep", steps=35000, url="s3://b/set", root_sha256="f" * 64, facts=facts
    )
    spec = EncoderSpec(model="resnet18", args={"drop_path_rate": 0.1})
    return model_card(
        origin, spec, library="timm", task="image-feature-extraction", usage="use()", notes=("N.",)
    )


def test_it_states_the_facts_of_run_and_set() -> None:
    lines = card(FACTS).splitlines()
    for row in (
        "| tower | resnet18 of timm |",
        r'| arguments of the tower | {"drop\_path\_rate": 0.1} |',
        "| images | RGB, 224 px square |",
        "| mean of red, green, blue | 0.485, 0.456, 0.406 |",
        "| objective | stablerep |",
        "| steps | 35,000 |",
        "| learned from | s3://b/set |",
        f"| root of that set | {'f' * 64} |",
        "| subjects of the set | 1,003 |",
        "| images of the set | 4,009 |",
        "| generator | easel |",
        "| CC0-1.0 | 1,000 |",
        "| not stated | 1 |",
    ):
        assert row in lines


def test_its_header_tells_the_hub_what_it_is() -> None:
    header = yaml.safe_load(card(FACTS).split("---\n")[1])
    assert header["library_name"] == "timm"
    assert header["pipeline_tag"] == "image-feature-extraction"
    assert header["license"] == "other"


def test_what_a_set_says_is_no_markup() -> None:
    assert r"| &lt;b&gt;\|x\|\\n\[y\](z) | 2 |" in card(FACTS).splitlines()


def test_many_licences_are_counted() -> None:
    many = SetFacts(
        renderer="r",
        model="",
        revision="",
        num_subjects=275,
        views_per_subject=1,
        num_images=1,
        licences=tuple((f"L{number}", 11) for number in range(25)),
    )
    assert "| L19 | 11 |" in card(many)
    assert "L20" not in card(many)
    assert "| 5 other licences | 55 |" in card(many)
    assert "| generator | none |" in card(many)


def test_without_the_set_it_says_how_to_read_it() -> None:
    assert "states neither generator nor licences: `synth export --learned-from" in card(None)
    assert "generator |" not in card(None)
