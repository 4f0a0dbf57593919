"""Small caption lists with their licences: see README.md here."""

from pathlib import Path

EMBEDDED_LIST = Path(__file__).parent / "pictograms-249.jsonl"
"""A caption of each thing that the embedded model can draw."""
