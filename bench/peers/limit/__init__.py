"""The limit: limit.c, the bare loop of `send` calls that any bridge must make; loop.py where there is no compiler."""
