"""One file for each command; heavy libraries are imported inside, so that `--help` is quick."""
