"""The contract between the pipeline that writes shard sets and whatever reads them (SPEC.md).

It needs pyarrow and fsspec and nothing else, and imports nothing of ours.
"""
