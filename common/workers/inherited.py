"""What a worker inherits, as its parent writes it on its command line and it reads it there."""

from __future__ import annotations

import argparse

import attrs


@attrs.frozen
class Inherited:
    """What the parent gave: this worker's number, from 1, the descriptors of the channel and the listening sockets."""

    worker: int
    channel: int
    listeners: tuple[int, ...]
    kept: bool = False
    """Whether the sockets stay open when the daemon ends."""

    def arguments(self) -> list[str]:
        """The arguments of the `serve` command that make a process this worker."""
        listeners = ",".join(map(str, self.listeners))
        kept = ["--kept"] if self.kept else []
        return [f"--worker={self.worker}", f"--channel={self.channel}", f"--listeners={listeners}", *kept]

    @classmethod
    def parsed(cls, options: argparse.Namespace) -> Inherited | None:
        """What the parsed arguments say; None of a process that is no worker."""
        if options.worker is None:
            return None
        return cls(options.worker, options.channel, options.listeners, options.kept)


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """What reads them again. They are not for people, so the help does not show them."""
    parser.add_argument("--worker", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--channel", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--listeners", type=_numbers, default=(), help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))
