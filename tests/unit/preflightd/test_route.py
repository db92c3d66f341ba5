"""What a path means to preflightd."""

from __future__ import annotations

import string
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.web.path import BadPath, Target, parse_target
from preflightd.route import route, run_key

RUN_IDS: Final = st.text(string.ascii_letters + string.digits + "_.;-", min_size=1, max_size=256).filter(
    lambda name: name not in {".", ".."}
)


@pytest.mark.parametrize(
    ("target", "run_id"),
    [
        ("/run", "run"),
        ("/run/", "run"),
        ("/run?gap=1", "run"),
        ("/run/?x", "run"),
        ("/r%75n", "run"),
        ("/batch%3B%3bname;;_base", "batch;;name;;_base"),
        ("/;", ";"),
        ("/A-Z_0.9", "A-Z_0.9"),
        ("/...", "..."),
        ("/healthy", "healthy"),
        ("http://app.example.gov/run", "run"),
        (f"/{'r' * 256}", "r" * 256),
    ],
)
@pytest.mark.parametrize("db", [0, 9])
def test_a_path_is_the_keyspace_channel_of_the_hash_of_the_same_name(target: str, run_id: str, db: int) -> None:
    named = route(parse_target(target.encode()), db)
    assert named.channel == f"__keyspace@{db}__:{run_id}".encode()
    assert dict(named.fields) == {"run_id": run_id}


@pytest.mark.parametrize("query", ["", "gap=1", "gap=0"])
def test_nobody_gets_gap_frames_since_nothing_is_ever_missing(query: str) -> None:
    assert not route(parse_target(f"/run?{query}".encode()), 0).wants_gap


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", "the run id is empty"),
        ("/.", "the run id may not be . or .."),
        ("/..", "the run id may not be . or .."),
        ("/run:wepp", "the run id may only have"),
        ("/a/b", "the run id may only have"),
        ("//run", "the run id may only have"),
        ("/run//", "the run id may only have"),
        ("/ru*", "the run id may only have"),
        ("/ru[n]", "the run id may only have"),
        ("/run\n", "the run id may only have"),
        ("/run ", "the run id may only have"),
        ("/run\N{LATIN SMALL LETTER E WITH ACUTE}", "the run id may only have"),
        (f"/{'r' * 257}", "the run id is longer than 256 characters"),
    ],
)
def test_other_paths_name_nothing(path: str, reason: str) -> None:
    with pytest.raises(BadPath) as refusal:
        route(Target(path, {}), 0)
    assert str(refusal.value).startswith(reason)


@given(RUN_IDS, st.integers(0, 15))
def test_the_key_to_be_read_is_the_run_id(run_id: str, db: int) -> None:
    assert run_key(route(Target(f"/{run_id}", {}), db).channel) == run_id.encode()


@given(st.text(max_size=20))
def test_two_paths_never_share_a_channel(path: str) -> None:
    try:
        named = route(Target(f"/{path}", {}), 0)
    except BadPath:
        return
    assert named.channel.decode() == f"__keyspace@0__:{path}"
