"""Rendering and training on a GPU, beside what a user would otherwise run."""
