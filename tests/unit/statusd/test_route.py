"""What a path means to statusd."""

from __future__ import annotations

import string
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.web.path import BadPath, Target, parse_target
from statusd.route import route

NAME_CHARACTERS: Final = string.ascii_letters + string.digits + "_.-"


@pytest.mark.parametrize(
    ("target", "run_id", "channel"),
    [
        ("/run:log", "run", "log"),
        ("/run:log/", "run", "log"),
        ("/run%3alog", "run", "log"),
        ("/batch%3B%3bname;;_base:log", "batch;;name;;_base", "log"),
        ("/;:-", ";", "-"),
        ("/A-Z_0.9:a.b-c_d", "A-Z_0.9", "a.b-c_d"),
        ("/...:...", "...", "..."),
        ("/health:live", "health", "live"),
    ],
)
def test_a_path_is_the_redis_channel_of_the_same_name(target: str, run_id: str, channel: str) -> None:
    named = route(parse_target(target.encode()))
    assert named.channel == f"{run_id}:{channel}".encode()
    assert dict(named.fields) == {"run_id": run_id, "channel": channel}


@pytest.mark.parametrize(
    ("query", "wants_gap"),
    [
        ("", False),
        ("gap=1", True),
        ("gap=0", False),
        ("gap=true", False),
        ("gap", False),
        ("GAP=1", False),
        ("gap=1&gap=0", False),
        ("a=b&gap=1", True),
    ],
)
def test_a_client_gets_gap_frames_if_it_asks_for_them(query: str, wants_gap: bool) -> None:
    assert route(parse_target(f"/run:log?{query}".encode())).wants_gap is wants_gap


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", "the path must be /<runid>:<channel>"),
        ("/run", "the path must be /<runid>:<channel>"),
        ("/run;log", "the path must be /<runid>:<channel>"),
        ("/:log", "the run id is empty"),
        ("/run:", "the channel is empty"),
        ("/a/b:log", "the run id may only have"),
        ("//run:log", "the run id may only have"),
        ("/run:log/x", "the channel may only have"),
        ("/run:a:b", "the channel may only have"),
        ("/run:a;b", "the channel may only have"),
        ("/ru*:log", "the run id may only have"),
        ("/run\n:log", "the run id may only have"),
        ("/run:log\n", "the channel may only have"),
        (f"/{'r' * 257}:log", "the run id is longer than 256 characters"),
        (f"/run:{'c' * 257}", "the channel is longer than 256 characters"),
    ],
)
def test_other_paths_name_nothing(path: str, reason: str) -> None:
    with pytest.raises(BadPath) as refusal:
        route(Target(path, {}))
    assert str(refusal.value).startswith(reason)


def no_directory(name: str) -> bool:
    return name not in {".", ".."}


@given(
    st.text(NAME_CHARACTERS + ";", min_size=1, max_size=256).filter(no_directory),
    st.text(NAME_CHARACTERS, min_size=1, max_size=256).filter(no_directory),
)
def test_every_good_name_arrives_as_it_is(run_id: str, channel: str) -> None:
    assert route(Target(f"/{run_id}:{channel}", {})).channel == f"{run_id}:{channel}".encode()


@given(st.text(max_size=20))
def test_two_paths_never_share_a_channel(path: str) -> None:
    try:
        named = route(Target(f"/{path}", {}))
    except BadPath:
        return
    assert named.channel.decode() == path
