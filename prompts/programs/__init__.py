"""Texts of image programs that this package can make: `grammar` writes one from any integer.

The language is described in `pipeline.renderers.image_programs.language`, which reads them.
"""
