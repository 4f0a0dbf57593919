"""Subjects in, shards and manifests out: plan, render, audit and write, on Ray or inline."""
