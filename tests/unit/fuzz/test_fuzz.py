"""Every fuzz target, briefly and with the suite's fixed seed, and the program that `make fuzz` runs for long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from fuzz.__main__ import EXAMPLES, main
from fuzz.pieces import CUTS, cut, damaged
from fuzz.registry import TARGETS
from fuzz.target import FuzzTarget, Machine, Property, holds_for

if TYPE_CHECKING:
    from pathlib import Path

BRIEFLY: Final = settings(max_examples=50, suppress_health_check=list(HealthCheck))

PROPERTIES: Final = [
    pytest.param(item, id=f"{target.name}-{item.name}") for target in TARGETS for item in target.properties
]


@pytest.mark.parametrize("item", PROPERTIES)
def test_it_holds(item: Property) -> None:
    item.run(BRIEFLY)


def test_targets_and_their_properties_have_names_of_their_own() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        assert target.properties
        assert len({item.name for item in target.properties}) == len(target.properties)


# -- pieces ------------------------------------------------------------------------------------------------------------


@holds_for(st.binary(max_size=50), CUTS)
def pieces_are_the_whole(data: bytes, cuts: list[float] | None) -> None:
    """In order, none empty."""
    pieces = cut(data, cuts)
    assert b"".join(pieces) == data
    assert all(pieces)
    assert cuts is not None or len(pieces) == len(data)


def test_pieces_are_the_whole() -> None:
    pieces_are_the_whole.run(BRIEFLY)


def test_damage_is_seldom_far_from_the_whole() -> None:
    seen: set[bytes] = set()

    def note(data: bytes) -> None:
        seen.add(data)

    holds_for(damaged(st.just(b"abcdef")))(note).run(BRIEFLY)
    assert b"abcdef" in seen
    assert len(seen) > 10
    assert all(len(data) <= 6 + 3 * 4 for data in seen)


# -- the program -------------------------------------------------------------------------------------------------------


@holds_for(st.integers())
def numbers_are_numbers(number: int) -> None:
    """True."""
    assert number == number + 0


@holds_for(st.integers())
def numbers_are_small(number: int) -> None:
    """False: the smallest counterexample is 1000."""
    assert number < 1000


class Counter(RuleBasedStateMachine):
    """Counts, and must not reach three."""

    count = 0

    @rule()
    def increase(self) -> None:
        """One more."""
        self.count += 1
        assert self.count < 3


TOYS: Final = (
    FuzzTarget("true", (numbers_are_numbers,)),
    FuzzTarget("false", (numbers_are_small,)),
    FuzzTarget("machine", (Machine(Counter),)),
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "saved"


def test_a_property_that_holds_ends_with_0(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0", "--seed", "7", "true"], TOYS, saved) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == "fuzz: seed 7, 0 seconds: true"
    assert last == "fuzz: 1 properties hold after 1 rounds of 200 examples, 0 do not"


def test_one_that_does_not_ends_with_1_and_says_how_to_see_it_again(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seconds", "0", "--seed", "7"], TOYS, saved) == 1
    out = capsys.readouterr().out
    assert "number=1000" in out
    assert "state.increase()" in out
    for target, name in (("false", "numbers_are_small"), ("machine", "Counter")):
        assert f"fuzz: {target}: {name} does not hold; again: python -m fuzz --seconds 0 --seed 7 {target}\n" in out
    assert out.endswith("fuzz: 1 properties hold after 1 rounds of 200 examples, 2 do not\n")


def test_a_failing_example_is_saved_and_is_the_first_to_be_tried(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int] = []

    def numbers_are_small(number: int) -> None:
        tried.append(number)
        assert number < 1000

    target = FuzzTarget("false", (holds_for(st.integers())(numbers_are_small),))
    assert main(["--seconds", "0", "--seed", "7"], [target], saved) == 1
    assert tried[0] != 1000
    tried.clear()
    assert main(["--seconds", "0", "--seed", "8"], [target], saved) == 1
    assert tried[0] == 1000
    assert capsys.readouterr().out.count("number=1000") == 2


def test_without_a_seed_each_run_has_a_fresh_one(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["--seconds", "0", "true"], TOYS, saved) == 0
    seeds = {line.split(",")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("fuzz: seed ")}
    assert len(seeds) == 2


def test_a_seed_gives_the_same_examples_and_another_gives_others() -> None:
    def drawn(number: int) -> list[int]:
        seen: list[int] = []

        def note(integer: int) -> None:
            seen.append(integer)

        holds_for(st.integers())(note).run(settings(BRIEFLY, derandomize=False, database=None), number)
        return seen

    assert drawn(1) == drawn(1) != drawn(2)


def test_rounds_go_on_until_the_time_is_up_each_with_the_next_seed(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100))
    # Not that of the module `time`, which whoever else runs in this process may read too.
    monkeypatch.setattr("fuzz.__main__.time", SimpleNamespace(monotonic=lambda: next(clock)))
    seeds: list[int | None] = []

    class Noting:
        name = "noting"

        def run(self, how: settings, number: int | None = None) -> None:
            assert how.max_examples == EXAMPLES
            seeds.append(number)

    assert main(["--seconds", "7", "--seed", "40"], [FuzzTarget("noting", (Noting(),))], saved) == 0
    assert seeds == [40, 41, 42, 43]
    assert "after 4 rounds" in capsys.readouterr().out


def test_a_target_that_is_none_is_told_with_those_there_are(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nonsense"], TOYS, saved)
    assert ended.value.code == 2
    assert "there is no target nonsense; there are: true, false, machine" in capsys.readouterr().err
