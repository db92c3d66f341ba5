"""The page of `make proof`: each promise of the README beside the figures that show it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from bench.verdicts import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.verdicts import Verdict


@attrs.frozen
class Claim:
    """A promise in the README's own words, and what stands in the verdicts that show it."""

    text: str
    shown_by: tuple[str, ...]

    def evidence(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Those of `verdicts` that show it."""
        return [verdict for verdict in verdicts if any(part in verdict.promise for part in self.shown_by)]

    def unshown(self, verdicts: Sequence[Verdict]) -> list[str]:
        """What should have shown it, and did not come."""
        return [part for part in self.shown_by if not any(part in verdict.promise for verdict in verdicts)]


CLAIMS: Final = (
    Claim(
        "a browser that has seen its connection to `statusd` open misses nothing that is published from then on while"
        " Redis is there, and gets everything in order and once",
        ("each message comes once, in order", "statusd, the daemon's metrics and k6 agree", "nobody is lost"),
    ),
    Claim(
        "The last frame that a browser has from `preflightd` is what the hash says, after a burst of writes as after an"
        " outage",
        ("last frame is the hash",),
    ),
    Claim("no two frames in a row are equal", ("none twice in a row",)),
    Claim(
        "Everybody is told goodbye, with a reason, when they have to go",
        ("every end has a documented reason", "SIGTERM drains", "all are told why"),
    ),
    Claim("No client can slow down another one", ("slow nobody else down",)),
    Claim(
        "with one subscribing Redis connection, whatever the number of browsers",
        ("one connection to Redis subscribes",),
    ),
)


@attrs.frozen
class Part:
    """One tool's run: what it said, its exit status, and the seconds that it took."""

    name: str
    verdicts: tuple[Verdict, ...]
    code: int
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether it ended badly without saying which promise is broken."""
        return bool(self.code) and all(verdict.kept for verdict in self.verdicts)


def is_kept(parts: Sequence[Part]) -> bool:
    """Whether every promise is shown, and nothing speaks against any."""
    verdicts = [verdict for part in parts for verdict in part.verdicts]
    return (
        all(verdict.kept for verdict in verdicts)
        and not any(part.code for part in parts)
        and not any(claim.unshown(verdicts) for claim in CLAIMS)
    )


def make_page(parts: Sequence[Part], seed: int, machine: str) -> str:
    """The page."""
    verdicts = [verdict for part in parts for verdict in part.verdicts]
    lines = [f"seed {seed}; {machine}", ", ".join(f"{part.name} {part.seconds:.0f} s" for part in parts)]
    told: list[Verdict] = []
    for claim in CLAIMS:
        evidence = claim.evidence(verdicts)
        told += evidence
        lines += ["", f"“{claim.text}”", render(evidence)]
        lines += [f"BROKEN  not shown: {part}" for part in claim.unshown(verdicts)]
    besides = [verdict for verdict in verdicts if verdict not in told]
    lines += ["", "And besides", render(besides)]
    lines += [f"BROKEN  {part.name} ended with {part.code} and no broken promise" for part in parts if part.failed]
    broken = sum(not verdict.kept for verdict in verdicts)
    lines += ["", f"{len(verdicts) - broken} kept, {broken} broken; seed {seed}"]
    return "\n".join(lines)
