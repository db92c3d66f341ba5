"""What the private groups make of answers and of ports: no process is started here."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import embedded
from common.embedded import EmbeddedRedis, EmbeddedRedisError, free_ports
from common.embedded_cluster import EmbeddedCluster, SlotView
from common.embedded_group import NotRunningError, ServerTLS, ask, fields, settle
from common.embedded_sentinel import EmbeddedSentinel


def node(port: int) -> EmbeddedRedis:
    return EmbeddedRedis(Path("redis-server"), Path("unused"), port, "", None)


def entry(name: bytes) -> list[object]:
    return [b"127.0.0.1", 7000, name, []]


def test_the_view_of_the_slots_is_that_of_cluster_slots() -> None:
    view = SlotView.read([[0, 99, entry(b"a"), entry(b"b")], [200, 200, entry(b"c")]])
    assert [view.of(slot) for slot in (0, 99, 100, 200)] == [("a", "b"), ("a", "b"), (), ("c",)]
    halves = SlotView.read([[200, 200, entry(b"c")], [50, 99, entry(b"a")], [0, 49, entry(b"a")]])
    assert halves.owners() == view.owners() == ((0, 99, "a"), (200, 200, "c"))


@pytest.mark.parametrize("reply", [None, b"OK", 7])
def test_an_answer_that_lists_no_slots_is_an_error(reply: object) -> None:
    with pytest.raises(EmbeddedRedisError, match="no list of slots"):
        SlotView.read(reply)


def test_lines_of_information_are_read_with_colons_in_their_values() -> None:
    assert fields(b"# Server\r\nrole:master\r\nslave0:ip=::1,port=1\r\n") == {
        "role": "master",
        "slave0": "ip=::1,port=1",
    }
    with pytest.raises(EmbeddedRedisError, match="not lines of text"):
        fields(7)


def test_free_ports_differ_from_each_other_and_their_want_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_PORTS", range(20_000, 20_000))
    with pytest.raises(EmbeddedRedisError, match="no free port"):
        free_ports(1)
    assert free_ports(0) == []


async def test_who_does_not_run_is_not_asked() -> None:
    with pytest.raises(NotRunningError, match="port 7000 does not run"):
        await ask(node(7000), "PING")


async def test_what_never_settles_is_an_error_with_the_last_reason() -> None:
    async def never() -> bool:
        raise NotRunningError("gone")

    with pytest.raises(EmbeddedRedisError, match=r"^not within 60 s: peace: gone$"):
        await settle("peace", never)


def test_the_urls_name_every_host() -> None:
    nodes = [node(7000), node(7001)]
    assert EmbeddedCluster(nodes, None).url() == "redis+cluster://127.0.0.1:7000,127.0.0.1:7001"
    assert (
        EmbeddedCluster(nodes, "a/b").url(options="pubsub=both")
        == "redis+cluster://:a%2Fb@127.0.0.1:7000,127.0.0.1:7001/?pubsub=both"
    )
    files = ServerTLS(Path("/c"), Path("/k"), Path("/a a"))
    assert (
        EmbeddedSentinel([], nodes, None, None, files).url(1, options="x=y")
        == "rediss+sentinel://127.0.0.1:7000,127.0.0.1:7001/mymaster/1?ssl_ca_certs=/a%20a&x=y"
    )


def test_no_password_is_in_a_repr() -> None:
    assert "hunter2" not in repr(EmbeddedCluster([], "hunter2"))
    assert "hunter2" not in repr(EmbeddedSentinel([], [], "hunter2", "hunter2"))


async def test_a_group_of_which_nobody_runs_says_so() -> None:
    with pytest.raises(EmbeddedRedisError, match="no node of the cluster runs"):
        await EmbeddedCluster([node(7000)], None).ranges()
    with pytest.raises(EmbeddedRedisError, match="no sentinel answers"):
        await EmbeddedSentinel([node(7000)], [node(7001)], None, None).primary()
