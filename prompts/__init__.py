"""What to depict: captions read from files, checked, and merged into one ordered list."""
