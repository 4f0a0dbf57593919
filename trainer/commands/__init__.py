"""One file a command; heavy libraries are imported inside."""
