"""Makes one shard after the other: render, audit, encode, tar, commit. It knows no executor.

While one batch renders, another thread encodes the pictures of the batches before it. While one
shard renders, the shard before it is committed: an executor keeps two calls of `make` in flight
(`SHARDS_IN_FLIGHT`). So the device that renders does not wait for the CPU or for storage.
"""

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from manifests.canonical import sha256_hex
from manifests.columns import Value, of_scope, require_values
from manifests.errors import ContractError
from manifests.foundation.errors import PluginError
from manifests.foundation.messages import one_line
from manifests.manifest import Manifest
from manifests.rows import ViewRow
from manifests.schema import NOT_DRAWN, RENDER_ERROR
from manifests.shard_set import ShardSet
from manifests.tars import View
from pipeline.batching import batches
from pipeline.committing import commit_views
from pipeline.deadline import BatchDeadline
from pipeline.errors import RendererError, RenderError, ShardError
from pipeline.isolation import RendererProcess
from pipeline.job import Job
from pipeline.rendering import render_checked
from pipeline.retrying import Attempt
from pipeline.shard_report import ShardReport
from pipeline.views import RenderedView, ViewRequest

SHARDS_IN_FLIGHT = 2
"""Calls of `make` at once in one worker: one shard renders, the other is encoded and committed."""
MAX_BATCHES_WAITING = 4
"""Batches whose pictures wait to be encoded; more would only take memory."""


class _Encoded(NamedTuple):
    """The views of one batch, and the seconds that their audits and encoding took."""

    views: list[View]
    seconds: float


class ShardWorker:
    """Holds a loaded renderer and makes shards of one set. `make` may be called by two threads.

    Raises:
        IdentityError: The renderer here would not give the pixels of the recipe.
    """

    def __init__(
        self,
        shards: ShardSet,
        job: Job,
        *,
        batch_deadline_s: float | None = None,
    ) -> None:
        view_pipeline = job.view_pipeline()
        self._shards = shards
        self._renderer = view_pipeline.renderer
        self._encoder = view_pipeline.encoder
        self._audits = view_pipeline.audits
        self._identity = shards.recipe.identity
        view_pipeline.require_same_pixels(self._identity, where=shards.store.url)
        self._taking = None if job.taking is None else job.taking.open()
        self._deadline = BatchDeadline(batch_deadline_s)
        self._process = RendererProcess(job, batch_deadline_s=batch_deadline_s)
        self._render_turn = threading.Lock()
        self._is_stopped = threading.Event()
        self._num_rendered: dict[int, int] = {}
        self._repeats = shards.store.num_repeats
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode")

    @classmethod
    def open(cls, job: Job, *, batch_deadline_s: float | None = None) -> "ShardWorker":
        """A worker with its renderer, checked against the recipe."""
        return cls(ShardSet.open(job.url), job, batch_deadline_s=batch_deadline_s)

    def make(self, attempt: Attempt) -> ShardReport:
        """Make one shard and commit it.

        In the last attempt, when nothing else runs, a process of its own renders. Each request of a
        batch that fails or ends that process is rendered by itself, and one that fails again
        becomes a failed row. So one bad prompt costs its own views and not the shard.

        Raises:
            ShardError: This shard could not be made now.
            SynthError: Something else is at fault: the storage, the set or the renderer.
        """
        try:
            return self._make(attempt)
        finally:
            self._num_rendered.pop(attempt.shard, None)

    def num_rendered(self) -> dict[int, int]:
        """Views that are rendered so far of each shard that is being made."""
        return dict(self._num_rendered)

    def _make(self, attempt: Attempt) -> ShardReport:
        start, shard = time.perf_counter(), attempt.shard
        requests = self._shards.requests(shard)
        self._num_rendered[shard] = 0
        taken = self._taking.views(self._identity, requests) if self._taking else {}
        missing = [request for request in requests if request.key not in taken]
        wait_start = time.perf_counter()
        with self._render_turn:
            render_start = time.perf_counter()
            wait_s = render_start - wait_start
            if attempt.is_alone:
                self._renderer.release()  # two copies of a model may not fit
            try:
                pending = self._render(missing, isolate=attempt.is_alone, shard=shard)
            finally:
                self._process.close()
            render_s = time.perf_counter() - render_start
        # The lock is free again: the next shard renders while this one is encoded and committed.
        encoded = [future.result() for future in pending]
        views = taken | {view.row.key: view for batch in encoded for view in batch.views}
        commit_start = time.perf_counter()

        def report(manifest: Manifest) -> ShardReport:
            return ShardReport(
                shard=shard,
                num_views=len(manifest.rows),
                num_ok=manifest.num_ok,
                tar_bytes=manifest.tar_bytes,
                wait_s=round(wait_s, 3),
                render_s=round(render_s, 3),
                encode_s=round(sum(batch.seconds for batch in encoded), 3),
                commit_s=round(time.perf_counter() - commit_start, 3),
                total_s=round(time.perf_counter() - start, 3),
                finished_at=round(time.time(), 3),
                errors=attempt.errors,
                storage_repeats=self._new_repeats(),
                host=socket.gethostname(),
                num_taken=len(taken),
            )

        return commit_views(self._shards, shard, requests, views, report)

    def _new_repeats(self) -> int:
        """Calls of the storage that were made again since this was asked last."""
        now = self._shards.store.num_repeats
        before, self._repeats = self._repeats, now
        return now - before

    @property
    def recipe_sha256(self) -> str:
        """Hash of the recipe of the set."""
        return self._shards.recipe_sha256

    @property
    def is_reproducible(self) -> bool:
        """Whether the renderer gives the same pixels again."""
        return self._renderer.is_reproducible

    def release(self) -> None:
        """Give back the memory of the model."""
        self._renderer.release()

    def stop(self) -> None:
        """End a shard that is being rendered after its batch; one that is committed goes on."""
        self._is_stopped.set()

    def render_views(self, requests: Sequence[ViewRequest]) -> list[View]:
        """Rows and images of some requests, in the order of the requests; nothing is written."""
        pending = self._render(requests, isolate=False, shard=None)
        views = {view.row.key: view for future in pending for view in future.result().views}
        return [views[request.key] for request in requests]

    def render_again(self, shard: int, row: ViewRow) -> ViewRow:
        """Render the view of a row by itself and return the row that it would get.

        Offset and length are those of the given row, because nothing is written: equal rows mean
        equal image bytes, by their hash.

        Args:
            shard: Number of the shard that holds the view.
            row: Of that view, as it is stored.
        """
        requests = [one for one in self._shards.requests(shard) if one.key == row.key]
        (view,) = self.render_views(requests)
        return replace(view.row, offset=row.offset, length=row.length)

    def _render(
        self, requests: Sequence[ViewRequest], *, isolate: bool, shard: int | None
    ) -> list[Future[_Encoded]]:
        """Render batch by batch; another thread encodes a batch while the next one renders.

        Args:
            shard: Whose views are counted while it is made; None for no shard.

        Returns:
            The views of each batch, once they are encoded. Batches are not in the order of keys.
        """
        pending: list[Future[_Encoded]] = []
        renderer = self._renderer
        for batch in batches(requests, renderer.batch_size, renderer.batch_key):
            if self._is_stopped.is_set():
                raise ShardError("the job was stopped")
            rendered = self._render_batch(batch, isolate)
            if shard is not None:
                self._num_rendered[shard] += len(batch)
            # Where encoding is slower than rendering, rendering waits here, so that the pixels
            # of a whole shard never pile up in memory.
            if len(pending) >= MAX_BATCHES_WAITING:
                pending[-MAX_BATCHES_WAITING].result()
            pending.append(self._encoding.submit(self._encode, batch, rendered))
        return pending

    def _render_batch(
        self, batch: Sequence[ViewRequest], isolate: bool
    ) -> Sequence[RenderedView | None]:
        """Views of one batch; with `isolate`, None for each request that fails by itself."""
        try:
            return self._call_renderer(batch, isolate)
        except RenderError:
            if not isolate:
                raise
        rendered: list[RenderedView | None] = []
        for request in batch:
            try:
                rendered += self._call_renderer([request], isolate)
            except RenderError:
                rendered.append(None)
        return rendered

    def _call_renderer(self, batch: Sequence[ViewRequest], isolate: bool) -> Sequence[RenderedView]:
        renderer, name = self._renderer, self._identity.renderer
        if isolate:  # that process has a deadline of its own
            return render_checked(renderer, batch, name, render=self._process.render)
        with self._deadline.watching(f"{batch[0].key} to {batch[-1].key}"):
            return render_checked(renderer, batch, name)

    def _encode(
        self, batch: Sequence[ViewRequest], rendered: Sequence[RenderedView | None]
    ) -> _Encoded:
        start = time.perf_counter()
        views = [
            self._to_view(request, view) for request, view in zip(batch, rendered, strict=True)
        ]
        return _Encoded(views, time.perf_counter() - start)

    def _to_view(self, request: ViewRequest, rendered: RenderedView | None) -> View:
        if rendered is None:
            reason = RENDER_ERROR
        else:
            reason = self._audit(request, rendered) if rendered.is_drawn else NOT_DRAWN
        image = None
        if rendered is not None and not reason:
            image = self._encoder.encode(rendered.pixels)
        identity, subject = self._identity, request.subject
        row = ViewRow(
            key=request.key,
            group_id=subject.group_id,
            view_index=request.view_index,
            status="failed" if image is None else "ok",
            reason=reason,
            kind=subject.kind,
            text=subject.text,
            label=subject.label,
            licence=subject.licence,
            source=subject.source,
            renderer=identity.renderer,
            model=identity.model,
            revision=identity.revision,
            seed=request.seed,
            **identity.size_of(request.view_index),
            format=identity.format,
            sha256="" if image is None else sha256_hex(image),
            values={
                **identity.constants,
                **subject.values,
                **request.variation,
                **self._view_values(request, rendered),
            },
        )
        return View(row=row, image=image)

    def _audit(self, request: ViewRequest, view: RenderedView) -> str:
        """Name of the first audit that refuses the view, or an empty text."""
        for name, audit in self._audits.items():
            try:
                is_refused = audit.refuses(request, view)
            except Exception as exc:  # the audit may be somebody else's code
                raise PluginError(
                    f"audit {name}, {request.key}: {type(exc).__name__}: {one_line(exc)}; this is "
                    "a fault of the audit, `synth --debug` shows where"
                ) from exc
            if not isinstance(is_refused, bool | np.bool_):
                raise PluginError(
                    f"audit {name}, {request.key}: gives {is_refused!r:.100}, expected True or "
                    "False; this is a fault of the audit"
                )
            if is_refused:
                return name
        return ""

    def _view_values(self, request: ViewRequest, view: RenderedView | None) -> dict[str, Value]:
        """Values of the columns of scope `view`; zeros where nothing was rendered."""
        columns = of_scope(self._identity.columns, "view")
        if view is None:
            return {column.name: column.zero() for column in columns}
        try:
            return require_values(view.values, columns, what=request.key)
        except ContractError as exc:
            raise RendererError(f"renderer {self._identity.renderer}: {exc}") from exc
