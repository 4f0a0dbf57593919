"""The process that compiles and draws shaders: run as a program, killed if it takes too long.

It reads a line of JSON for each order on its standard input and answers with a line of JSON, behind
which the pixels of a view follow. It imports nothing of this package: it starts quickly, and a
driver that crashes takes nothing along.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO


def main() -> None:
    # It ends with its parent, however that ends: 1 is PR_SET_PDEATHSIG.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    # What drivers print must not be taken for an answer.
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    if settings["memory_bytes"]:
        limit = settings["memory_bytes"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    import moderngl

    create: Any = moderngl.create_standalone_context
    context = create(backend="egl")
    painter = Painter(context, settings["size_px"])
    _answer(answers, {"renderer": context.info["GL_RENDERER"], "gl": context.info["GL_VERSION"]})
    for line in sys.stdin.buffer:
        order = json.loads(line)
        try:
            pixels = painter.compile(order) if order["do"] == "compile" else painter.draw(order)
        except Exception as exc:  # what a compiler says is an answer, too
            _answer(answers, {"error": str(exc)})
        else:
            _answer(answers, {"bytes": len(pixels)}, pixels)


def _answer(answers: BinaryIO, document: dict[str, Any], pixels: bytes = b"") -> None:
    answers.write(json.dumps(document).encode() + b"\n" + pixels)
    answers.flush()


class Painter:
    """One shader at a time, drawn over a square."""

    def __init__(self, context: Any, size_px: int) -> None:
        self.context, self.size_px = context, size_px
        self.corners = context.buffer(struct.pack("6f", -1, -1, 3, -1, -1, 3))
        self.black = context.texture((1, 1), 4, bytes(4))
        self.program: Any = None
        self.array: Any = None
        self.targets: dict[int, Any] = {}

    def compile(self, order: dict[str, Any]) -> bytes:
        """Compile, link, and draw one view, because drivers compile at the first draw."""
        if self.program is not None:
            self.array.release()
            self.program.release()
            self.program = None
        program = self.context.program(vertex_shader=order["vertex"], fragment_shader=order["code"])
        self.program = program
        self.array = self.context.vertex_array(program, [(self.corners, "2f", "corner")])
        count = order["targets"]
        if count not in self.targets:
            size = (self.size_px, self.size_px)
            colours = [self.context.texture(size, 4) for _ in range(count)]
            self.targets[count] = self.context.framebuffer(colours)
        self.target = self.targets[count]
        self.draw({"time": 1.0, "viewport": [0.0, 0.0, 1.0]})
        return b""

    def draw(self, order: dict[str, Any]) -> bytes:
        """Pixels of a view, RGB rows from the top."""
        side, time = float(self.size_px), order["time"]
        frame = int(time * 60)
        self._set(("iTime", "time", "t"), time, frame // 60)
        self._set(("iResolution", "resolution", "r"), (side, side), (side, side, 1.0))
        self._set(("mouse", "m"), (0.0, 0.0))
        self._set(("iMouse",), (0.0, 0.0, 0.0, 0.0))
        self._set(("iTimeDelta",), 1 / 60)
        self._set(("iFrameRate",), 60.0)
        self._set(("iFrame",), frame)
        self._set(("f",), float(frame))
        self._set(("s",), 0.0)
        self._set(("iDate",), (2022.0, 0.0, 1.0, time))
        self._set(("iSampleRate",), 44100.0)
        self._set(("synth_viewport",), tuple(order["viewport"]))
        self.black.use(0)
        self.target.use()
        self.target.clear(0.0, 0.0, 0.0, 1.0)
        self.array.render(mode=self.context.TRIANGLES)
        self.context.finish()
        rows = self.target.read(components=3, attachment=0)
        stride = 3 * self.size_px
        return b"".join(
            rows[start : start + stride] for start in range(len(rows) - stride, -1, -stride)
        )

    def _set(self, names: tuple[str, ...], *values: Any) -> None:
        # A uniform that a shader does not use is not there any more; one of another type than its
        # dialect has it takes the value that fits, or stays 0.
        for name in (name for name in names if name in self.program):
            for value in values:
                try:
                    self.program[name].value = value
                except Exception:
                    continue
                break


if __name__ == "__main__":
    main()
