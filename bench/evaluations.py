"""How many checklists a second one core evaluates: `python -m bench.evaluations [ROUNDS]`.

The hashes are the tests' captured projects; the figure is the best of the rounds, each of the same work, so that what
else the machine does counts as little as may be.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from preflightd.checklist import packaged

_PROJECTS = Path(__file__).parent.parent / "tests" / "data"
_TIMES = 400


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    texts = [path.read_text("utf-8") for path in sorted(_PROJECTS.glob("*.json"))]
    hashes = [{field.encode(): value.encode() for field, value in json.loads(text)["hash"].items()} for text in texts]
    evaluate = packaged().evaluate
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(_TIMES):
            for fields in hashes:
                evaluate(fields)
        seconds.append(time.perf_counter() - began)
    print(f"{_TIMES * len(hashes) / min(seconds):,.0f} evaluations a second, best of {rounds}, {len(hashes)} projects")


if __name__ == "__main__":
    main()
