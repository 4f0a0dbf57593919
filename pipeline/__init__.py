"""Prompts in, shards and manifests out: planning, rendering, judging, writing, on Ray or inline."""
