"""A daemon's page of metrics as numbers. Pure."""

from __future__ import annotations


def samples(page: str, prefix: str) -> dict[str, float]:
    """The samples whose names begin with `prefix` and an underscore, by name with labels, without the prefix."""
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith(f"{prefix}_"))
    return {name.removeprefix(f"{prefix}_"): float(value) for name, _, value in lines}
