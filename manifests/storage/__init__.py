"""Where the files of a set lie: a folder, a bucket, or any place that fsspec can read."""
