"""The fan-out row: N clients on one channel, so many messages a second, the daemon and its peers in turn.

`python -m bench.fanout` prints one JSON document on standard output; progress and a table go to standard error.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

import attrs

from bench import row
from bench.feed import LARGEST_COUNT, SMALLEST_SIZE, status_feed
from bench.targets import FANOUT_TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.targets import Target

CHANNEL: Final = "bench;;fanout;;_base:wepp"
"""A composite run id, as the platform's are."""
_DATABASE: Final = 2


@attrs.frozen(kw_only=True)
class Options(row.Shape):
    """The command line; `size` is the bytes of a payload."""

    subject: str
    against: Sequence[str]
    size: int

    def targets(self) -> list[Target]:
        """The subject first, then its peers."""
        return [FANOUT_TARGETS[name] for name in (self.subject, *self.against)]


def main() -> None:
    """Exit status: 0; 1 when a message was lost, repeated or altered, or a connection ended; 2 without a result."""
    options = parse_options(sys.argv[1:])
    row.main(
        row.Row(
            name="fanout",
            targets=options.targets(),
            database=_DATABASE,
            feed=status_feed(CHANNEL, options.size),
            shape=options,
            parameters=attrs.asdict(options, filter=lambda field, _: field.name not in ("subject", "against")),
        )
    )


def parse_options(arguments: Sequence[str]) -> Options:
    """Exits with status 2 and a line on standard error when they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__.partition("\n")[0])
    parser.add_argument("--subject", default="statusd", choices=FANOUT_TARGETS, help="what is measured (%(default)s)")
    parser.add_argument(
        "--against",
        action="append",
        choices=[*FANOUT_TARGETS, "none"],
        metavar="PEER",
        help=f"what it is compared with, again for several: {', '.join(FANOUT_TARGETS)} or none (trio_websocket)",
    )
    parser.add_argument("--size", type=int, default=100, help="bytes of a message (%(default)s)")
    row.add_shape_arguments(parser, clients=300, rate=10)
    given = parser.parse_args(arguments)
    against = [name for name in given.against or ["trio_websocket"] if name != "none"]
    options = Options(**vars(given) | {"against": against})
    if len({options.subject, *against}) != len(against) + 1:
        parser.error("a target can't be compared with itself, or twice with another")
    row.check_shape(parser, options)
    if options.size < SMALLEST_SIZE or options.writes >= LARGEST_COUNT:
        parser.error(f"messages have at least {SMALLEST_SIZE} bytes, and there are fewer than {LARGEST_COUNT}")
    return options


if __name__ == "__main__":
    main()
