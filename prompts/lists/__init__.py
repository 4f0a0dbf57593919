"""Small caption lists with their licences: see README.md here."""

from pathlib import Path

EMBEDDED_LIST = Path(__file__).parent / "handwriting-96.jsonl"
"""96 captions that describe what the embedded model can paint."""

PICTOGRAM_LIST = Path(__file__).parent / "pictograms-249.jsonl"
"""A caption of each concept of the pictogram world."""
