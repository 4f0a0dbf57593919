"""One file a command. Callbacks import what is heavy, so that --help is quick."""
