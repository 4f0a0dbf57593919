"""How the ranks that `--nproc` starts find each other: in a file, so that no port is taken."""

STORE_VARIABLE = "SYNTH_STORE"
"""Environment variable that names the file."""
