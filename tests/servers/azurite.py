"""Azurite, Microsoft's own emulator of Azure Blob Storage, on loopback: from the npm registry."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

PACKAGE = "azurite@3.35.0"
START_S = 60.0
ACCOUNT = "devstoreaccount1"
KEY = "bm90aGluZw=="
"""Of the only account, on loopback; in base64, as Azure has it."""


def is_installable() -> bool:
    """Whether this machine has what is needed to install it."""
    return bool(shutil.which("npm") and shutil.which("node"))


@contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """An empty server, and every `az` client of this process and of its children goes to it."""
    install = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent"]
    subprocess.run([*install, PACKAGE], check=True, capture_output=True, timeout=600)
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    log = folder / "azurite.log"
    options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry"]
    options += ["--skipApiVersionCheck", "--location", str(folder / "data")]
    environment = os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["node", str(script), *options], env=environment, stdout=output, stderr=output
        ) as process,
    ):
        try:
            address = _address(process, log)
            connection = (
                f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
                f"BlobEndpoint={address}/{ACCOUNT};"
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
                patch.setenv("NO_PROXY", "127.0.0.1")
                fsspec.get_filesystem_class("az").clear_instance_cache()
                yield address
                fsspec.get_filesystem_class("az").clear_instance_cache()
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"listens on (http://127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
