"""Call a renderer, which may be somebody else's code, and check what comes back."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manifests.foundation.errors import SynthError
from manifests.foundation.messages import one_line
from pipeline.errors import RendererError
from pipeline.renderers import Renderer
from pipeline.views import RenderedView, ViewRequest


def render_checked(
    renderer: Renderer,
    batch: Sequence[ViewRequest],
    name: str,
    *,
    render: Callable[[Sequence[ViewRequest]], Sequence[RenderedView]] | None = None,
) -> Sequence[RenderedView]:
    """Views of requests of one `batch_key`; nobody can change their pixels any more.

    Args:
        name: Of the renderer, for messages.
        render: Renders in place of the renderer, such as a process of its own.

    Raises:
        RenderError: The renderer failed on these requests, or killed its process.
        RendererError: The renderer raised an error that is not ours, or gave the wrong number,
            size or type of views.
    """
    width_px, height_px = renderer.size_of(batch[0].variation)
    shape = (height_px, width_px, 3)
    try:
        rendered = list((render or renderer.render)(batch))
    except SynthError:
        raise
    except Exception as exc:
        # Not an error that a renderer may raise, so a fault of its code: to try the shard again
        # would hide it.
        raise RendererError(
            f"renderer {name}, {batch[0].key}: {type(exc).__name__}: {one_line(exc)}; this is "
            "a fault of the renderer, `synth --debug` shows where"
        ) from exc
    if len(rendered) != len(batch):
        raise RendererError(
            f"renderer {name}: {len(rendered)} views for {len(batch)} requests, expected one "
            "for each; this is a fault of the renderer"
        )
    for request, view in zip(batch, rendered, strict=True):
        if not isinstance(view, RenderedView) or not isinstance(view.pixels, np.ndarray):
            raise RendererError(
                f"renderer {name}, {request.key}: gives a {type(view).__name__}, expected a "
                "RenderedView with a NumPy array; this is a fault of the renderer"
            )
        if view.pixels.shape != shape or view.pixels.dtype != "uint8":
            raise RendererError(
                f"renderer {name}, {request.key}: pixels are {view.pixels.dtype} "
                f"{list(view.pixels.shape)}, it says uint8 {list(shape)}; this is a fault of the "
                "renderer"
            )
    # Audits look at the pixels that are stored, and must not be able to change them.
    return [replace(view, pixels=_read_only(view.pixels)) for view in rendered]


def _read_only(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    view = pixels.view()
    view.flags.writeable = False
    return view
