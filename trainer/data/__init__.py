"""From tars to batches: which groups, which views, which crops. What is read is untrusted."""
