"""A small disk that can be full, frozen or read-only; it needs root and a loop device."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

DISK_MB = 64
NEEDED = ("mkfs.ext4", "mount", "umount", "fsfreeze")


def is_possible() -> bool:
    """Whether this user and machine can have one."""
    return (
        os.geteuid() == 0 and Path("/dev/loop-control").exists() and all(map(shutil.which, NEEDED))
    )


@dataclass(frozen=True)
class Disk:
    """A mounted ext4."""

    folder: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Without a free byte."""
        filler = self.folder / "filler"
        try:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 20))
            yield
        finally:
            filler.unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Whoever writes waits."""
        _run("fsfreeze", "--freeze", self.folder)
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", self.folder)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Once no file is open for writing."""
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def _remount(self, mode: str) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                return _run("mount", "--options", f"remount,{mode}", self.folder)
            except subprocess.CalledProcessError:  # busy
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)


@contextmanager
def disk(work: Path) -> Iterator[Disk]:
    """A new empty disk; its image lies in `work`."""
    image, folder = work / "disk.img", work / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_MB << 20)
    _run("mkfs.ext4", "-q", "-F", image)
    _run("mount", "--options", "loop", image, folder)
    try:
        yield Disk(folder)
    finally:
        _run("umount", folder)


def _run(*words: object) -> None:
    subprocess.run([*map(str, words)], check=True, capture_output=True)
