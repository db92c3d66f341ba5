"""The preflight row: N clients on one run, whose hash is written so many times a second, a change each time.

`python -m bench.preflight` prints one JSON document on standard output; progress and a table go to standard error.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

import attrs

from bench import row
from bench.feed import checklist_feed
from bench.targets import PREFLIGHTD

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN_ID: Final = "bench;;preflight;;_base"
"""A composite run id, as the platform's are."""
_DATABASE: Final = 0
_MOST_WRITES: Final = 10**6
"""Each is evaluated before the load begins."""


def main() -> None:
    """Exit status: 0; 1 when a client's last frame is not the evaluation of the hash, a frame came again or is none of
    those that are due, or a connection ended; 2 without a result."""
    shape = parse_options(sys.argv[1:])
    row.main(
        row.Row(
            name="preflight",
            targets=[PREFLIGHTD],
            database=_DATABASE,
            feed=checklist_feed(RUN_ID),
            shape=shape,
            parameters=attrs.asdict(shape),
        )
    )


def parse_options(arguments: Sequence[str]) -> row.Shape:
    """Exits with status 2 and a line on standard error when they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m bench.preflight", description=__doc__.partition("\n")[0])
    row.add_shape_arguments(parser, clients=200, rate=10)
    shape = row.Shape(**vars(parser.parse_args(arguments)))
    row.check_shape(parser, shape)
    if shape.writes >= _MOST_WRITES:
        parser.error(f"there are fewer than {_MOST_WRITES} writes")
    return shape


if __name__ == "__main__":
    main()
