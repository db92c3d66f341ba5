"""What RFC 6455 asks of a server, case by case, as raw bytes (`case`) with the answer that SPEC 1 promises.

The modules are tables and pure. `framing`, `utf8`, `closing`, `limits` and `compression` have the cases of the Autobahn
test suite under its numbers, so that a finding of the one can be looked up in the other; `wire` and `handshake` have
those that it lacks, numbered by the section of the RFC. What is told of a client's message there ("echoed") is told
here by a ping behind it: these daemons ignore what clients say, and answer pings.

`tests/unit/common/serving/test_conformance.py` plays them in memory, with the exact time to the end of TCP, and
`tests/integration/test_conformance.py` against the daemons' processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.conformance import closing, compression, framing, limits, utf8, wire

if TYPE_CHECKING:
    from tests.conformance.case import Case

SECTIONS: Final = (framing, utf8, closing, limits, compression, wire)

CASES: Final[dict[str, Case]] = {case.id: case for section in SECTIONS for case in section.CASES}
"""Every conversation, by its number."""
