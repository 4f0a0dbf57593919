"""A finished run in the format of somebody else, in a folder of its own."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import TEMPORARY_PREFIX, sync_folder
from manifests.foundation.plugins import find_entry
from trainer.errors import CheckpointError
from trainer.exports import EXPORTS, export_class
from trainer.models.specs import SPEC, read_description
from trainer.origin import parse_origin, read_set_facts


def export_finished(run: Path, name: str, out: Path, *, learned_from: str | None = None) -> None:
    """Write a finished run in one format; the folder is there when all of its files are.

    Args:
        run: Folder of the run, or a file of its checkpoints, which has no part for texts.
        name: Of an export of the table, or a dotted path.
        out: Folder to make; an empty one may be there.
        learned_from: URL of the set that the run learned from, whose generator and licences are
            then stated; None states the root of the set alone.

    Raises:
        PluginError: There is no such export, or a library that it needs is missing.
        CheckpointError: The run is not finished, or damaged.
        ConfigError: The format cannot hold what was learned, or the folder holds something else.
        DataError: At the URL lies another set.
    """
    find_entry("export", EXPORTS, name)
    out = Path(os.path.realpath(out))
    _require_empty(out)
    if not run.is_dir() and run.suffix != ".pt":
        raise CheckpointError(f"{run}: no such folder; give the --out of a run, or a checkpoint")
    if run.is_dir():
        parse_origin(read_description(run).made, where=str(run / SPEC))

    # Only now, so that what could be refused until here costs no import of torch.
    import torch

    from trainer.kept_encoders import load_kept
    from trainer.models.text import load_text

    export = export_class(name)
    with torch.random.fork_rng(devices=[]):  # a tower draws weights before it is given its own
        tower, kept = load_kept(run)
        text = load_text(run) if run.is_dir() else None
    origin, spec = parse_origin(kept.made, where=str(run / SPEC)), kept.spec
    parts = {"image": tower} | ({} if text is None else {"text": text})
    if missing := [part for part in export.parts if part not in parts]:
        raise ConfigError(
            f"--as {name}: takes the {missing[0]} part of a run, which {run} does not have; export "
            "a run whose objective makes one (stablerep-plus and clip make text)"
        )
    export().check(parts, spec)
    if learned_from is not None:
        facts = read_set_facts(learned_from, root_sha256=origin.root_sha256)
        origin = replace(origin, facts=facts)
    scratch = out.with_name(f"{TEMPORARY_PREFIX}{out.name}")
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # of an export that was killed
        scratch.mkdir(parents=True)
        export().write(scratch, parts, spec, origin)
        os.replace(scratch, out)
        sync_folder(out.parent)
    except OSError as exc:
        raise ConfigError(
            f"--out {out}: cannot be written ({exc.strerror}); choose another folder"
        ) from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _require_empty(out: Path) -> None:
    if not os.path.lexists(out):
        return
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else [out.name]
    if names:
        raise ConfigError(f"--out {out}: holds {names[0]}; give an empty folder, or a new one")
