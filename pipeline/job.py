"""What makes the shards of one set: the renderer, the audits and the encoder, and how to get them.

A `Job` is plain data that travels to every worker, and the worker builds a `ViewPipeline` from it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from manifests.columns import Value
from manifests.errors import IdentityError
from manifests.foundation.differences import differing_keys
from manifests.foundation.errors import ConfigError, PluginError
from manifests.foundation.messages import shortened
from manifests.foundation.settings import check
from manifests.recipe import SIZES, Identity, Recipe
from manifests.taking import SealedSet, Taking
from pipeline.audits import Audit, audit_class
from pipeline.encoding import ImageConfig, ImageEncoder
from pipeline.renderers import Renderer, renderer_class
from pipeline.views import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPipeline:
    """What a view passes before it is stored: the renderer, the audits, the image encoder."""

    renderer: Renderer
    encoder: ImageEncoder
    audits: Mapping[str, Audit]
    """By name, in the order in which they judge."""

    def identity(self, *, is_draft: bool = False) -> dict[str, Any]:
        """The part of a recipe's identity that these three decide, as JSON.

        Args:
            is_draft: Leave `renderer_identity` empty: a renderer that was not probed does not know
                yet all that decides its pixels.
        """
        provenance = self.renderer.provenance()
        sizes = [self._sizes(variation) for variation in self.renderer.variations()]
        are_equal = all(size == sizes[0] for size in sizes)
        return {
            "renderer_identity": {} if is_draft else dict(self.renderer.identity()),
            "model": provenance.model,
            "revision": provenance.revision,
            "columns": [column.to_json() for column in self.renderer.columns()],
            "constants": dict(provenance.constants),
            **sizes[0],
            **({} if are_equal else {"sizes": sizes}),
            "format": self.encoder.format,
            "encoding": self.encoder.identity(),
            # A list and not an object, because the order counts: the first audit that refuses a
            # view is the reason in its row.
            "audits": [
                {"name": name, **audit.config.model_dump(mode="json")}
                for name, audit in self.audits.items()
            ],
        }

    def require_same_pixels(self, identity: Identity, *, where: str) -> None:
        """Refuse to render for a set where other pixels would be made than its recipe says.

        Args:
            where: The set, for the message.

        Raises:
            IdentityError: The message names the keys that differ.
        """
        # Only the part that this machine decides is compared: seeds and counts are read from the
        # recipe, so they cannot differ.
        here = self.identity()
        there = {name: value for name, value in identity.to_json().items() if name in here}
        if keys := differing_keys(here, there):
            raise IdentityError(
                f"{where}: this machine would render other pixels than the recipe's; these "
                f"differ: {', '.join(keys)}. Every machine needs the same "
                "package and model"
            )

    def _sizes(self, variation: Mapping[str, Value]) -> dict[str, int]:
        rendered_px = self.renderer.size_of(variation)
        return dict(zip(SIZES, (*rendered_px, *self.encoder.stored_px(rendered_px)), strict=True))

    def settings(self) -> dict[str, Any]:
        """What the recipe keeps besides its identity, so that a worker can be built from both."""
        return {
            "renderer": self.renderer.frozen().model_dump(mode="json"),
            "image": self.encoder.config.model_dump(mode="json"),
            "resources": asdict(self.renderer.resources()),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenFrom:
    """The set that a job takes views from: the first groups of its plan are those of that set."""

    url: str
    """Where it is, as every worker reaches it."""
    root_sha256: str

    def open(self) -> Taking:
        """Its views, by the requests of the job's own set. Raises as `SealedSet.open`."""
        sealed = SealedSet.open(self.url, root_sha256=self.root_sha256)
        num_groups = sealed.identity.num_subjects
        return Taking([sealed], lambda group: group if group < num_groups else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker needs to know; it travels to every worker."""

    url: str
    """Where the set is, as every worker reaches it."""
    renderer: str
    """Name of the renderer, or its dotted path `package.module:Class`."""
    settings: Mapping[str, Any]
    """What `ViewPipeline.settings` gave when the set was begun."""
    audits: Sequence[Mapping[str, Any]]
    """Name and settings of each audit, as the identity has them."""
    resources: Resources
    taking: TakenFrom | None = None
    """The set whose views are not rendered again; None if there is none."""

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        url: str,
        *,
        changes: Mapping[str, Any] | None = None,
        trusted: Collection[str] = (),
    ) -> "Job":
        """The job of making, or making again, the views of a set that was begun.

        Args:
            url: Where the set is, as every worker reaches it.
            changes: Keys of the renderer's table with another value on this machine, such as the
                folder of the model. The worker checks that the pixels stay the same.
            trusted: Dotted paths of plug-ins outside of this package that the user allows to run.

        Raises:
            ConfigError: The set names such a renderer or audit and nobody allowed it, what was
                allowed is not in the set, or its recipe holds no settings of a renderer.
        """
        _require_trust({recipe.identity.renderer, *recipe.identity.reasons}, trusted, url)
        settings = dict(recipe.settings)
        # Resources stand in the recipe, so that a driver can ask a cluster for workers without
        # opening the renderer.
        renderer_table, resource_table = settings.get("renderer"), settings.get("resources")
        try:
            settings["renderer"] = {**renderer_table, **(changes or {})}  # type: ignore[dict-item]
            resources = Resources(
                device_type=resource_table["device_type"],  # type: ignore[index]
                gpus=resource_table.get("gpus", 1),  # type: ignore[union-attr]
                threads=resource_table["threads"],  # type: ignore[index]
            )
        except (TypeError, LookupError, ConfigError) as exc:
            raise ConfigError(
                f"{url}: its recipe.json does not hold the settings of a renderer; restore it"
            ) from exc
        return cls(
            url=url,
            renderer=recipe.identity.renderer,
            settings=settings,
            audits=recipe.identity.audits,
            resources=resources,
        )

    def open_renderer(self) -> Renderer:
        """The renderer, with its weights not loaded yet."""
        plugin = renderer_class(self.renderer)
        values = self.settings["renderer"]
        config = check(plugin.Config, values, origin="recipe.json", table="settings.renderer")
        return plugin(config)

    def view_pipeline(self) -> ViewPipeline:
        """Renderer, audits and encoder as the set says.

        Raises:
            ConfigError: The settings are damaged.
        """
        renderer = self.open_renderer()
        audits = {
            table["name"]: {key: table[key] for key in table if key != "name"}
            for table in self.audits
        }
        image = check(
            ImageConfig, self.settings.get("image", {}), origin="recipe.json", table="image"
        )
        return ViewPipeline(
            renderer=renderer,
            encoder=encoder_for(renderer, image),
            audits=open_audits(audits, origin="recipe.json"),
        )


def encoder_for(renderer: Renderer, config: ImageConfig) -> ImageEncoder:
    """The encoder of a renderer's views. Raises ConfigError if some would have to be enlarged."""
    sizes = {renderer.size_of(variation) for variation in renderer.variations()}
    return ImageEncoder(config, rendered_px=sizes)


def _require_trust(named: Collection[str], trusted: Collection[str], url: str) -> None:
    """Refuse a set that names a module which the user does not name too.

    A set may come from anybody, and to import a module is to run it (docs/adr/0016).
    """
    foreign = sorted(name for name in named if ":" in name)
    for name in foreign:
        if name not in trusted:
            raise ConfigError(
                f"{url}: the set was made with {name}, which is not part of this package; nothing "
                f"that a set names is run unasked. If you trust it, give --trust {name}"
            )
    for name in trusted:
        if name not in foreign:
            raise ConfigError(
                f"{url}: --trust {name}: the set names no such plug-in; it names "
                f"{', '.join(foreign) or 'none outside of this package'}"
            )


def open_audits(tables: Mapping[str, Any], *, origin: str) -> dict[str, Audit]:
    """Audits by name, each from its table.

    Args:
        tables: Settings by name of the audit, in the order in which the audits judge.
        origin: File for messages.

    Raises:
        ConfigError: A wrong key or value.
        PluginError: An unknown name, or an audit with a setting that is called `name`.
    """
    audits: dict[str, Audit] = {}
    for name, values in tables.items():
        plugin = audit_class(name)
        if "name" in plugin.Config.model_fields:
            raise PluginError(
                f"audit {name}: its Config has a key `name`, under which a set keeps the name of "
                "the audit; rename the key"
            )
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{origin}: audits.{name} is {shortened(repr(values))}, expected a table"
            )
        audits[name] = plugin(check(plugin.Config, values, origin=origin, table=f"audits.{name}"))
    return audits
