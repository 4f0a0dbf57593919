"""The drawing process as its renderer sees it: orders with deadlines.

After a process that ended, or had to be ended, the next order starts another.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError

START_S = 60.0
"""For a process to be ready: a cold driver takes a second, a busy machine longer."""
_CHILD = Path(__file__).parent / "child.py"


class ShaderError(PipelineError):
    """A shader cannot be drawn; says why, in one line."""


class DrawingProcess:
    """Compiles and draws shaders in a process of its own, which is started when it is needed.

    Args:
        size_px: Side of a picture.
        device: `cpu` for Mesa's software renderer, `cuda` for the GPU that EGL finds.
        memory_gib: Address space of the process; 0 for no limit, which drivers of GPUs need.
    """

    def __init__(
        self, *, size_px: int, device: str, compile_s: float, draw_s: float, memory_gib: float
    ) -> None:
        self.size_px, self.device = size_px, device
        self.compile_s, self.draw_s = compile_s, draw_s
        self.memory_gib = memory_gib
        self._process: subprocess.Popen[bytes] | None = None
        self._compiled: tuple[str, int] | None = None
        self.driver: dict[str, str] = {}
        """Renderer and version of OpenGL, once a process has been started."""

    def start(self) -> None:
        """Start the process, if none is running.

        Raises:
            PipelineError: There is no OpenGL here.
        """
        if self._process is not None:
            return
        memory = int(self.memory_gib * 2**30) if self.device == "cpu" else 0
        settings = {"size_px": self.size_px, "memory_bytes": memory}
        environment = dict(os.environ)
        if self.device == "cpu":
            # One thread: small pictures are drawn faster by one, and workers share the cores.
            environment |= {"LIBGL_ALWAYS_SOFTWARE": "1", "LP_NUM_THREADS": "0"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        self._process = subprocess.Popen(
            [sys.executable, str(_CHILD), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # so that helpers of a driver end with it
        )
        self._waiting = b""
        try:
            self.driver = self._line(time.monotonic() + START_S)
        except (ShaderError, TimeoutError) as exc:
            self.close()
            raise PipelineError(
                f"no OpenGL can be used here ({exc or 'no answer'}); shaders need EGL and Mesa, "
                "such as Debian's packages libegl1 and libgl1, and pip install 'synth-rep[shaders]'"
            ) from exc

    def compile(self, vertex: str, code: str, targets: int) -> None:
        """Compile a shader and draw it once; it is then the one that `draw` draws.

        Raises:
            ShaderError: The compiler refuses it, it takes longer than `compile_s`, or the process
                ended.
        """
        if self._process is not None and self._compiled == (code, targets):
            return
        self.start()
        self._compiled = None
        order = {"do": "compile", "vertex": vertex, "code": code, "targets": targets}
        self._ask(order, self.compile_s, "to compile")
        self._compiled = code, targets

    def draw(self, time_s: float, viewport: tuple[float, float, float]) -> NDArray[np.uint8]:
        """A view of the compiled shader, uint8 [size_px, size_px, 3].

        Args:
            viewport: What is added to a place on the screen, in pixels, once it is multiplied by
                the third number.

        Raises:
            ShaderError: It takes longer than `draw_s`, or the process ended.
        """
        order = {"do": "draw", "time": time_s, "viewport": viewport}
        pixels = self._ask(order, self.draw_s, "to draw")
        return np.frombuffer(pixels, dtype=np.uint8).reshape(self.size_px, self.size_px, 3)

    def close(self) -> None:
        """End the process."""
        process, self._process, self._compiled = self._process, None, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, self._errors):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def _ask(self, order: dict[str, Any], limit_s: float, what: str) -> bytes:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise self._ended() from exc
        deadline = time.monotonic() + limit_s
        try:
            answer = self._line(deadline)
            if "error" in answer:
                raise ShaderError(str(answer["error"]))
            return self._bytes(answer["bytes"], deadline)
        except TimeoutError as exc:
            self.close()
            raise ShaderError(f"took more than {limit_s:g} s {what}, and was ended") from exc

    def _line(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._waiting:
            self._receive(deadline)
        line, _, self._waiting = self._waiting.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as exc:
            self.close()
            raise ShaderError(f"the drawing process answers {line[:40]!r}") from exc
        return answer

    def _bytes(self, count: int, deadline: float) -> bytes:
        while len(self._waiting) < count:
            self._receive(deadline)
        content, self._waiting = self._waiting[:count], self._waiting[count:]
        return content

    def _receive(self, deadline: float) -> None:
        """Wait for more of the answer. Raises TimeoutError, or ShaderError if the process ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise TimeoutError
        data = os.read(self._process.stdout.fileno(), 1 << 20)
        if not data:
            raise self._ended()
        self._waiting += data

    def _ended(self) -> ShaderError:
        """What ended the process, from its status and the last line that it printed."""
        assert self._process is not None
        self._process.wait()
        status = self._process.returncode
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        self.close()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return ShaderError(f"the drawing process ended with {how}{f' ({last})' if last else ''}")
