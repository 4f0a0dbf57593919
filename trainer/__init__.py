"""The trainer: comes next. Declared now, so that what it may import is settled before it exists."""
