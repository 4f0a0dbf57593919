"""Draw the sprites of the pictogram world: one atlas of 64 px sprites for each family of drawings.

    python -m benchmarks.embedded_model.draw_sprites ICONS

ICONS holds a folder for each family with the unpacked npm package of its name: `npm pack
@iconify-json/noto@1.2.9`, twemoji@1.2.5, fluent-emoji-flat@1.2.6, openmoji@1.2.29 and
emojione-v1@1.2.3. Needs `resvg-py`. The concepts are those of `pipeline/embedded/concepts.json`;
the atlases and their hashes go beside it. It was run once; run it again only with the concepts.
"""

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.embedded.sprites import (
    ATLAS_COLUMNS,
    FAMILIES,
    FOLDER,
    SPRITE_PX,
    concepts,
)

DRAWN_PX = 256
LEVELS = 31


def main(icons: Path) -> None:
    """Write an atlas for each family, and `sprites.json` with what each was made from."""
    packages = {family: _package(icons / family) for family in FAMILIES}
    # The oldest family has no table of code points: a drawing has the name it has elsewhere.
    names = [
        {
            chars[code]
            for _, chars, _ in packages.values()
            for code in _codes(each.code_point, chars)
        }
        for each in concepts()
    ]
    record: dict[str, Any] = {}
    for family, (pack, chars, info) in packages.items():
        sprites = []
        for concept, elsewhere in zip(concepts(), names, strict=True):
            own = {chars[code] for code in _codes(concept.code_point, chars)}
            sprites.append(_draw(pack, own or elsewhere, f"{family}: {concept.name}"))
        content = _atlas(np.stack(sprites))
        (FOLDER / "drawings" / f"{family}.webp").write_bytes(content)
        record[family] = {
            "package": f"{info['name']}@{info['version']}",
            "atlas_sha256": hashlib.sha256(content).hexdigest(),
        }
        print(f"{family}: {len(sprites)} sprites, {len(content):,} bytes")
    (FOLDER / "sprites.json").write_text(json.dumps(record, indent=1) + "\n")


def _package(folder: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """Drawings, code points and name of an unpacked package."""
    pack, chars, package = (
        json.loads((folder / name).read_text("utf-8"))
        for name in ("icons.json", "chars.json", "package.json")
    )
    return pack, chars, package


def _codes(code_point: str, chars: dict[str, str]) -> list[str]:
    return [code for code in (code_point, f"{code_point}-fe0f") if code in chars]


def _draw(pack: dict[str, Any], names: set[str], where: str) -> NDArray[np.uint8]:
    """One drawing, cropped to what is not transparent, [64, 64, 4]."""
    import resvg_py

    aliases = pack.get("aliases", {})
    for name in sorted(names):
        icon = pack["icons"].get(name) or pack["icons"].get(aliases.get(name, {}).get("parent"))
        if icon:
            break
    else:
        sys.exit(f"{where}: none of {sorted(names)} is in the package")
    width, height = icon.get("width", pack["width"]), icon.get("height", pack["height"])
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{DRAWN_PX}" height="{DRAWN_PX}">'
        f"{icon['body']}</svg>"
    )
    png = resvg_py.svg_to_bytes(svg_string=svg)
    drawing = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    box = drawing.getchannel("A").getbbox()
    assert box is not None, where
    side = max(box[2] - box[0], box[3] - box[1])
    square = Image.new("RGBA", (side, side))
    cropped = drawing.crop(box)
    square.paste(cropped, ((side - cropped.width) // 2, (side - cropped.height) // 2))
    # Pillow resizes RGBA with premultiplied colours, so no dark edge appears.
    sprite = np.asarray(square.resize((SPRITE_PX, SPRITE_PX), Image.Resampling.LANCZOS))
    # Five bits a channel: nobody sees the difference at 32 px, and the atlas is half as large.
    sprite = np.rint(np.rint(sprite / 255 * LEVELS) * 255 / LEVELS).astype(np.uint8)
    sprite[sprite[..., 3] == 0] = 0
    return sprite


def _atlas(sprites: NDArray[np.uint8]) -> bytes:
    """Sprites row by row in one lossless picture."""
    rows = -(-len(sprites) // ATLAS_COLUMNS)
    atlas = Image.new("RGBA", (ATLAS_COLUMNS * SPRITE_PX, rows * SPRITE_PX))
    for index, sprite in enumerate(sprites):
        row, column = divmod(index, ATLAS_COLUMNS)
        atlas.paste(Image.fromarray(sprite), (column * SPRITE_PX, row * SPRITE_PX))
    buffer = io.BytesIO()
    atlas.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return buffer.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
