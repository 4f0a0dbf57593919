"""Write `pipeline/embedded/splits.json`, the fixed split of the handwriting. It was made once.

70 % are `train`; the held-out 30 % are halved into `select` and `report`. Every part has the same
proportion of each digit.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 2306_00984  # the number of the StableRep paper on arXiv, so that nobody chose it


def main() -> None:
    """Draw the split; a JSON object of ascending lists of row numbers of `load_digits`."""
    target = load_digits().target
    everything = np.arange(len(target))
    train, held_out = train_test_split(
        everything, test_size=539, stratify=target, random_state=SEED
    )
    select, report = train_test_split(
        held_out, test_size=0.5, stratify=target[held_out], random_state=SEED
    )
    splits = {"train": train, "select": select, "report": report}
    text = json.dumps({name: sorted(rows.tolist()) for name, rows in splits.items()})
    Path(__file__).parents[2].joinpath("pipeline/embedded/splits.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
