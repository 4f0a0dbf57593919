"""The data-set card, whose YAML header tells hubs and `datasets` to read the tars alone."""

from manifests.recipe import Identity
from manifests.seal import Seal

_SIZE_CATEGORIES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)


def size_category(num_images: int) -> str:
    """The hub's name for a count. Example: size_category(864) == "n<1K"."""
    for limit, name in _SIZE_CATEGORIES:
        if num_images < limit:
            return name
    return "n>100M"


def dataset_card(identity: Identity, seal: Seal) -> str:
    """Content of README.md. It depends on the recipe's identity and the seal alone."""
    counts = seal.counts
    # Each value once, in the order of the recipe; a dict keeps the order, a set would not.
    varied = {
        name: list(dict.fromkeys(v[name] for v in identity.variations))
        for name in identity.variations[0]
    }
    rows = [f"| {name} | {', '.join(map(str, values))} |" for name, values in varied.items()]
    rows += [f"| {name} | {value} |" for name, value in identity.constants.items() if value != ""]
    details = "\n".join(rows) or "| variations | none |"
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.tar
size_categories:
- {size_category(counts["num_ok"])}
tags:
- synthetic
- webdataset
- synth
---

# A synthetic image set

| what | value |
|---|---|
| subjects | {identity.num_subjects:,} |
| views of each subject | {identity.views_per_subject} |
{details}
| images | {counts["num_ok"]:,} in {counts["num_shards"]:,} tars, {counts["tar_bytes"]:,} bytes |
| views that failed | {counts["num_failed"]:,} |
| missing shards | {len(seal.missing)} |
| renderer | {identity.renderer} |
| model | {identity.model} |
| recipe | `{seal.recipe_sha256}` |
| root | `{seal.root_sha256}` |

Each group of adjacent images depicts one subject; `group_id` in the JSON member says which. The
columns of `manifests/*.parquet` and the rules that hold are those of format version 2 of
`synth-rep`; what this renderer varied and kept constant is declared under `columns` in
`recipe.json`. Licence and source of each subject are in its rows; the licence of the images is
that of the generator's output.
"""
