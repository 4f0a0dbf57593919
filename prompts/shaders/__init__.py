"""Fragment shaders as people write them down: their dialects, and folders of them.

`examples` holds shaders of this project, one in each dialect.
"""
