"""One module per target; each has a `TARGET`."""
