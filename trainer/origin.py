"""Where an encoder comes from: the run that made it, and the set that the run learned from."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from manifests.foundation.messages import without_folders
from manifests.recipe import Identity
from manifests.seal import Seal
from manifests.shard_set import ShardSet
from trainer.errors import CheckpointError, DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFacts:
    """What a shard set says of its images."""

    renderer: str
    model: str
    """Name of the generator; empty if the renderer has none."""
    revision: str
    num_subjects: int
    views_per_subject: int
    num_images: int
    """Views that are in the set; failed ones are not."""
    licences: tuple[tuple[str, int], ...]
    """Licences of the subjects, each with its number of subjects, the most frequent first; an empty
    text stands for the subjects that state none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an export comes from."""

    objective: str
    steps: int
    url: str
    """Of the set that was learned from, without secrets and folders of this machine."""
    root_sha256: str
    """Hash of that set."""
    facts: SetFacts | None = None
    """What the set says of itself; None if it was not read, or is no shard set."""

    def to_json(self) -> dict[str, Any]:
        """What `encoder.json` holds under `made`; the facts are those of the set and stay there."""
        return {
            "objective": self.objective,
            "steps": self.steps,
            "set": {"url": self.url, "root_sha256": self.root_sha256},
        }


def parse_origin(made: Mapping[str, Any], *, where: str) -> Origin:
    """The origin that `Origin.to_json` wrote. Raises CheckpointError if a key is missing."""
    try:
        return Origin(
            objective=str(made["objective"]),
            steps=int(made["steps"]),
            url=without_folders(str(made["set"]["url"])),
            root_sha256=str(made["set"]["root_sha256"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(
            f"{where}: does not say how the encoder was made ({exc!r}); restore the file, or train "
            "the run again"
        ) from exc


def facts_of_seal(identity: Identity, seal: Seal) -> SetFacts | None:
    """What recipe and seal say of a set; None if the seal does not count all licences."""
    about = seal.about
    if about is None or about.num_other_licences:
        return None
    return _facts(identity, seal, about.licences)


def read_set_facts(url: str, *, root_sha256: str) -> SetFacts:
    """What a set says of its images; all of its plan is read if the seal does not say it.

    Args:
        url: Where the set lies.
        root_sha256: Hash of the set that is expected there.

    Raises:
        DataError: Another set lies there, or one that is not sealed.
        ContractError: There is no set, or it is damaged.
    """
    shards = ShardSet.open(url)
    seal = shards.seal()
    if seal is None or seal.root_sha256 != root_sha256:
        root = "none, it is not sealed" if seal is None else seal.root_sha256
        raise DataError(
            f"{shards.store.url}: not the set that the run learned from; its root is {root}, "
            f"expected {root_sha256}; give the URL of that set"
        )
    identity = shards.recipe.identity
    if facts := facts_of_seal(identity, seal):
        return facts
    licences = Counter(subject.licence for subject in shards.all_subjects())
    # Equal counts in the order of their texts, so that one set has one card.
    return _facts(identity, seal, sorted(licences.items(), key=lambda item: (-item[1], item[0])))


def _facts(identity: Identity, seal: Seal, licences: Iterable[tuple[str, int]]) -> SetFacts:
    return SetFacts(
        renderer=identity.renderer,
        model=identity.model,
        revision=identity.revision,
        num_subjects=identity.num_subjects,
        views_per_subject=identity.views_per_subject,
        num_images=seal.counts["num_ok"],
        licences=tuple(licences),
    )
