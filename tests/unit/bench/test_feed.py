"""What a load writes, and the frames that it must cause: distinct, and those that the specification names."""

from __future__ import annotations

import json

import pytest

from bench.feed import LARGEST_COUNT, SMALLEST_SIZE, checklist_feed, command, payloads, status_feed
from preflightd.checklist import packaged


def test_a_command_has_lengths_in_bytes() -> None:
    assert command("PUBLISH", "r:é", b"hi") == b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nr:\xc3\xa9\r\n$2\r\nhi\r\n"


def test_a_message_is_published_on_the_channel_that_clients_ask_for() -> None:
    feed = status_feed(["run:log"], 8)
    assert (feed.paths, feed.prepare, feed.greeting, feed.coalesced) == (["/run:log"], (), None, False)
    first, second = feed.writes(2)
    assert first.command == command("PUBLISH", "run:log", b"00000000")
    assert second.frame == b'\x81\x23{"type":"status","data":"00000001"}'


def test_several_channels_take_turns() -> None:
    feed = status_feed(["one:log", "two:log"], 8)
    assert feed.paths == ["/one:log", "/two:log"]
    assert [_parts(write.command)[1] for write in feed.writes(3)] == [b"one:log", b"two:log", b"one:log"]
    assert len({write.frame for write in feed.writes(3)}) == 3


def test_every_write_of_the_checklist_changes_the_frame_and_the_last_frame_is_that_of_the_hash() -> None:
    feed = checklist_feed("run")
    fields: dict[bytes, bytes] = {}
    delete, fill = (_parts(part) for part in feed.prepare)
    assert delete == [b"DEL", b"run"]
    assert fill[:2] == [b"HSET", b"run"]
    fields.update(zip(fill[2::2], fill[3::2], strict=True))
    assert feed.greeting == packaged().evaluate(fields).frame()
    frames = [feed.greeting]
    for write in feed.writes(50):
        name, key, *pairs = _parts(write.command)
        assert (name, key) == (b"HSET", b"run")
        fields.update(zip(pairs[::2], pairs[1::2], strict=True))
        assert write.frame == packaged().evaluate(fields).frame()
        frames.append(write.frame)
    assert len(set(frames)) == 51


def test_the_project_of_the_checklist_is_a_realistic_one() -> None:
    (write,) = checklist_feed("run").writes(1)
    content = json.loads(write.frame[4:])
    assert {key for key, done in content["checklist"].items() if done} == {
        "channels", "outlet", "subcatchments", "landuse", "soils", "climate", "wepp"
    }  # fmt: skip
    assert len(content["lock_statuses"]) == 5


@pytest.mark.parametrize("size", [SMALLEST_SIZE, 9, 100, 5000])
def test_payloads_are_distinct_have_the_size_asked_for_and_need_no_escape(size: int) -> None:
    made = payloads(1000, size)
    assert len(set(made)) == 1000
    assert {len(payload) for payload in made} == {size}
    assert all(payload.isascii() and payload.decode().isprintable() for payload in made)
    assert not any(character in payload for payload in made for character in (b'"', b"\\"))


@pytest.mark.parametrize(("count", "size"), [(1, SMALLEST_SIZE - 1), (LARGEST_COUNT + 1, 100)])
def test_payloads_that_could_not_be_told_apart_are_an_error(count: int, size: int) -> None:
    with pytest.raises(ValueError, match="distinct"):
        payloads(count, size)


def _parts(encoded: bytes) -> list[bytes]:
    """The parts of a command none of which holds a line break."""
    return encoded.split(b"\r\n")[2:-1:2]
