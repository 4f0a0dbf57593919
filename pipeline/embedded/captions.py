"""Captions of the pictogram world: a concept in natural words, sometimes its group and its ground.

    a penguin
    a bird, a penguin
    a penguin on blue

The ground is named seldom in lists for encoders: where captions always name it, the views of a
caption share it, and encoders learn colours of grounds.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.embedded.scenes import GROUND_NAMES, held_out_ground
from pipeline.embedded.sprites import Concept, concepts

SYNONYM_PROB = 0.25
GROUP_PROB = 0.4
GROUND_PROB = 0.25
_VOWEL_SOUNDS = ("umbrella", "hourglass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a caption says."""

    concept: int
    """Index into `concepts()`."""
    name: str
    """The concept's name or a synonym."""
    with_group: bool = False
    ground: int | None = None
    """Index into GROUND_NAMES; None is not named."""

    def caption(self) -> str:
        """Say it: `a bird, a penguin on blue`."""
        thing = concepts()[self.concept]
        group = f"{with_article(thing.group)}, " if self.with_group else ""
        named = with_article(self.name) if thing.countable else self.name
        ground = "" if self.ground is None else f" on {GROUND_NAMES[self.ground]}"
        return f"{group}{named}{ground}"


def with_article(noun: str) -> str:
    """`an owl`, `a penguin`."""
    is_vowel = noun[0] in "aeio" or noun in _VOWEL_SOUNDS
    return f"{'an' if is_vowel else 'a'} {noun}"


def describe(
    rng: np.random.Generator, concept: int, ground: int, *, ground_prob: float = GROUND_PROB
) -> Description:
    """Name a concept, and with a probability each its group and its ground."""
    thing: Concept = concepts()[concept]
    chances = rng.random(3)
    name = thing.name
    if thing.synonyms and chances[0] < SYNONYM_PROB:
        name = thing.synonyms[int(rng.integers(len(thing.synonyms)))]
    return Description(
        concept=concept,
        name=name,
        with_group=bool(chances[1] < GROUP_PROB),
        ground=ground if chances[2] < ground_prob else None,
    )


def draw_descriptions(rng: np.random.Generator, count: int) -> list[Description]:
    """Draw `count` different captions, the concepts in turn in a random order."""
    chosen: dict[str, Description] = {}
    while len(chosen) < count:
        for concept in rng.permutation(len(concepts())).tolist():
            ground = int(held_out_ground(np.array(concept)) + rng.integers(1, len(GROUND_NAMES)))
            description = describe(rng, concept, ground % len(GROUND_NAMES))
            chosen.setdefault(description.caption(), description)
            if len(chosen) == count:
                break
    return list(chosen.values())


def words() -> frozenset[str]:
    """Every word that a caption of this world can have."""
    texts = [*GROUND_NAMES, "a an on"]
    for thing in concepts():
        texts += [thing.name, *thing.synonyms, thing.group]
    return frozenset(word for text in texts for word in text.split())
