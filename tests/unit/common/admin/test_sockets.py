"""The operator's Unix socket (common/admin/sockets.py): private, with one listener, and nobody else's taken away."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from common.admin import sockets
from common.admin.sockets import bind_admin, obstacle
from common.config import ListenAddress, UnixAddress


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the socket is to be: short, for the kernel takes 107 bytes, and the test's directory may be deep."""
    monkeypatch.chdir(tmp_path)
    return Path("admin.sock")


def address(path: Path) -> UnixAddress:
    return UnixAddress(str(path))


def left_behind(path: Path) -> None:
    """A socket's file whose listener is gone, as after a SIGKILL."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


def test_the_file_is_for_its_owner_alone_and_the_mask_is_as_it_was(path: Path) -> None:
    mask = os.umask(0)
    try:
        with bind_admin(address(path)) as admin:
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
            assert admin.names == [str(address(path))]
            assert not admin.sockets[0].getblocking()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        assert os.umask(0) == 0
    finally:
        os.umask(mask)


def test_the_file_goes_with_its_listener(path: Path) -> None:
    with bind_admin(address(path)) as admin:
        pass
    assert not path.exists()
    assert admin.sockets[0].fileno() == -1


def test_anothers_file_stays(path: Path) -> None:
    with bind_admin(address(path)):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_file_that_has_gone_before_is_no_error(path: Path) -> None:
    with bind_admin(address(path)):
        path.unlink()


def test_a_file_that_is_taken_away_at_once_leaves_no_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Robbed(socket.socket):
        def bind(self, where: Any, /) -> None:
            super().bind(where)
            path.unlink()
            made.append(self)

    monkeypatch.setattr("common.admin.sockets.socket.socket", Robbed)
    with pytest.raises(FileNotFoundError):
        bind_admin(address(path))
    assert [sock.fileno() for sock in made] == [-1]


def test_what_a_killed_daemon_left_behind_is_taken_away(path: Path) -> None:
    left_behind(path)
    with bind_admin(address(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_nobody_is_listened_over(path: Path) -> None:
    with bind_admin(address(path)):
        with pytest.raises(OSError, match="in use") as raised:
            bind_admin(address(path))
        assert raised.value.errno == errno.EADDRINUSE
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_one_that_is_too_busy_to_answer_is_there_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_PROBE_TIMEOUT", 0.01)
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))  # whoever comes now waits for its turn
        with pytest.raises(OSError, match="in use") as raised:
            bind_admin(address(path))
        assert raised.value.errno == errno.EADDRINUSE
        assert path.exists()


def test_a_file_that_is_no_socket_is_not_taken_away(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="no socket"):
        bind_admin(address(path))
    assert path.read_text() == "precious"


def test_a_directory_that_is_not_there_leaves_nothing_open(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bind_admin(UnixAddress("none/admin.sock"))


def test_a_socket_that_can_not_be_made_private_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_path: Path, _mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(PermissionError):
        bind_admin(address(path))
    assert not path.exists()


# -- what `check` sees of it, without trying ---------------------------------------------------------------------------


def test_a_port_can_only_be_tried() -> None:
    assert obstacle(ListenAddress("127.0.0.1", 1)) is None
    assert obstacle(None) is None


def test_a_place_that_is_free_or_has_a_socket_is_none(path: Path) -> None:
    assert obstacle(address(path)) is None
    left_behind(path)
    assert obstacle(address(path)) is None


def test_what_stands_in_the_way_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert obstacle(UnixAddress("none/admin.sock")) == "there is no directory none"
    path.write_text("")
    assert obstacle(address(path)) == "there is a file of that name that is no socket"
    assert obstacle(UnixAddress("admin.sock/admin.sock")) == "Not a directory"
    path.unlink()
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert obstacle(address(path)) == ". can't be written to"
