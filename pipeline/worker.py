"""Makes one shard after the other: render, judge, encode, tar, commit. It knows no executor.

While one shard renders, the pictures of its earlier batches are encoded and the shard before it
is committed: an executor keeps two calls of `make` in flight (`SHARDS_IN_FLIGHT`).
"""

import json
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from manifests.commit import commit_shard
from manifests.errors import IdentityError
from manifests.rows import ViewRow
from manifests.schema import NO_HASH, Reason
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from manifests.tars import View, write_tar
from pipeline.batching import batches
from pipeline.encoding import ImageConfig, ImageEncoder
from pipeline.errors import RenderError
from pipeline.judging import judge
from pipeline.renderers import Renderer, renderer_class
from pipeline.retrying import Attempt
from pipeline.views import RenderedView, ViewRequest

SHARDS_IN_FLIGHT = 2
MAX_BATCHES_WAITING = 4
"""Batches whose pictures wait to be encoded; more would only take memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker needs to know; it travels to every worker."""

    url: str
    renderer: str
    renderer_config: dict[str, Any]
    image_config: dict[str, Any]
    device_type: str
    num_threads: int
    """Cores that a worker on the CPU keeps busy."""

    def open(self) -> "ShardWorker":
        """A worker with its renderer, checked against the recipe."""
        found = renderer_class(self.renderer)
        renderer = found(found.Config(**self.renderer_config))
        return ShardWorker(ShardSet.open(self.url), renderer, ImageConfig(**self.image_config))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """A shard that is committed. Nothing in it decides pixels."""

    shard: int
    num_views: int
    num_ok: int
    tar_bytes: int
    render_s: float
    total_s: float
    finished_at: float
    """Unix time, seconds."""
    errors: tuple[str, ...]
    """What the attempts before the successful one died of."""
    host: str


class ShardWorker:
    """Holds a loaded renderer and makes shards of one set. `make` may be called by two threads.

    Raises:
        IdentityError: The renderer here would not give the pixels of the recipe.
    """

    def __init__(self, shards: ShardSet, renderer: Renderer, image: ImageConfig) -> None:
        self._shards = shards
        self._renderer = renderer
        provenance = renderer.provenance()
        self._encoder = ImageEncoder(image, rendered_px=provenance.width_px)
        self._provenance = provenance
        mine = {"renderer": dict(renderer.identity()), "image": self._encoder.identity()}
        identity = shards.recipe.identity
        theirs = {"renderer": dict(identity.renderer_identity), "image": dict(identity.image)}
        if mine != theirs:
            keys = [
                f"{table}.{key}"
                for table in mine
                for key in sorted({*mine[table], *theirs[table]})
                if mine[table].get(key) != theirs[table].get(key)
            ]
            raise IdentityError(
                f"{shards.store.url}: this worker ({socket.gethostname()}) would render other "
                f"pixels than the recipe's; these differ: {', '.join(keys)}. Every machine needs "
                "the same package and model"
            )
        self._render_turn = threading.Lock()
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode")

    def make(self, attempt: Attempt) -> ShardReport:
        """Make one shard and commit it.

        In the last attempt, with nothing else running, a request that makes rendering fail by
        itself becomes a failed row, so that one bad prompt does not cost a shard.

        Raises:
            ShardError: This shard could not be made now.
            ContractError: The storage or the set is at fault.
        """
        start, shard = time.perf_counter(), attempt.shard
        requests = self._shards.requests(shard)
        with self._render_turn:
            render_start = time.perf_counter()
            pending = self._render(requests, isolate=attempt.is_last)
            render_s = time.perf_counter() - render_start
        views = sorted(
            (view for future in pending for view in future.result()), key=lambda view: view.row.key
        )
        with tempfile.TemporaryDirectory(prefix="synth-") as scratch:
            tar = Path(scratch) / "shard.tar"
            try:
                with tar.open("wb") as file:
                    write_tar(file, views, recipe_sha256=self._shards.recipe_sha256, shard=shard)
            except OSError as exc:
                raise StoreError(
                    f"{tar}: scratch cannot be written ({exc.strerror}); free some space or set "
                    "TMPDIR, then run the same command again"
                ) from exc
            manifest = commit_shard(
                self._shards.store,
                self._shards.layout,
                tar=tar,
                recipe_sha256=self._shards.recipe_sha256,
                shard=shard,
                keys=[request.key for request in requests],
            )
        report = ShardReport(
            shard=shard,
            num_views=len(manifest.rows),
            num_ok=manifest.num_ok,
            tar_bytes=manifest.tar_bytes,
            render_s=round(render_s, 3),
            total_s=round(time.perf_counter() - start, 3),
            finished_at=round(time.time(), 3),
            errors=attempt.errors,
            host=socket.gethostname(),
        )
        text = json.dumps(asdict(report), indent=2, sort_keys=True) + "\n"
        self._shards.store.create(self._shards.layout.stats(shard), text.encode())
        return report

    def render_views(self, requests: Sequence[ViewRequest]) -> list[View]:
        """Views of some requests, written nowhere."""
        pending = self._render(requests, isolate=False)
        views = {view.row.key: view for future in pending for view in future.result()}
        return [views[request.key] for request in requests]

    def _render(
        self, requests: Sequence[ViewRequest], *, isolate: bool
    ) -> list[Future[list[View]]]:
        """Render batch by batch; each is encoded by another thread while the next one renders."""
        pending: list[Future[list[View]]] = []
        for batch in batches(requests, self._renderer.batch_size):
            rendered = self._render_batch(batch, isolate)
            if len(pending) >= MAX_BATCHES_WAITING:
                pending[-MAX_BATCHES_WAITING].result()
            pending.append(self._encoding.submit(self._encode, batch, rendered))
        return pending

    def _render_batch(
        self, batch: Sequence[ViewRequest], isolate: bool
    ) -> Sequence[RenderedView | None]:
        try:
            return self._renderer.render(batch)
        except RenderError:
            if not isolate:
                raise
        rendered: list[RenderedView | None] = []
        for request in batch:
            try:
                rendered += self._renderer.render([request])
            except RenderError:
                rendered.append(None)
        return rendered

    def _encode(
        self, batch: Sequence[ViewRequest], rendered: Sequence[RenderedView | None]
    ) -> list[View]:
        return [self._to_view(request, view) for request, view in zip(batch, rendered, strict=True)]

    def _to_view(self, request: ViewRequest, rendered: RenderedView | None) -> View:
        reason: Reason = "render-error" if rendered is None else judge(rendered)
        image = None
        if rendered is not None and not reason:
            image = self._encoder.encode(rendered.pixels)
        made, prompt = self._provenance, request.prompt
        is_guided = request.guidance_scale > 1
        row = ViewRow(
            key=request.key,
            group_id=prompt.group_id,
            view_index=request.view_index,
            status="failed" if image is None else "ok",
            reason=reason,
            prompt=prompt.prompt,
            negative_prompt=(prompt.negative_prompt or made.negative_prompt) if is_guided else "",
            label=prompt.label,
            licence=prompt.licence,
            source=prompt.source,
            renderer=made.renderer,
            model=made.model,
            revision=made.revision,
            scheduler=made.scheduler,
            steps=made.steps,
            guidance_scale=request.guidance_scale,
            seed=request.seed,
            render_width_px=made.width_px,
            render_height_px=made.height_px,
            width_px=self._encoder.size_px,
            height_px=self._encoder.size_px,
            format=self._encoder.format,
            num_tokens_cut=rendered.num_tokens_cut if rendered else 0,
            renderer_params=made.params,
            sha256=NO_HASH if image is None else sha256(image).digest(),
        )
        return View(row=row, image=image)
