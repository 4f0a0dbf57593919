"""One file for each command. Heavy imports are inside the callbacks, so that --help is quick."""
