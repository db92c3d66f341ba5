"""The bridges that the daemon is compared with: the same paths and frames, on other libraries.

Each has a folder of its own and is started as `python -m bench.peers.<name> --port PORT --redis URL` (or its
runtime's like). None is a straw man: each is what a developer at home in its library would write, well configured.
"""
