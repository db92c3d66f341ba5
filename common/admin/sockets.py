"""The operator's address: bound once, in the process that the operator started, and given back at its end.

A Unix socket's file has mode 0600 from its first moment. One that a killed daemon left behind is taken away, but only a
socket, and only when nobody listens on it any more.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from common.config import ListenAddress, UnixAddress
from common.web.listener import bind, bound_to

if TYPE_CHECKING:
    from typing import Self

BACKLOG: Final = 64
"""Connections that the kernel keeps ready for us."""

_PRIVATE: Final = 0o600
_PROBE_TIMEOUT: Final = 1.0


@attrs.define(eq=False)
class AdminSockets:
    """Listening sockets; a context that closes them."""

    address: ListenAddress | UnixAddress
    sockets: tuple[socket.socket, ...]
    _file: tuple[int, int] | None = None
    """Which file a Unix socket is: device and inode."""

    @property
    def names(self) -> list[str]:
        """Where they listen, for the log."""
        return [str(self.address)] if isinstance(self.address, UnixAddress) else bound_to(self.sockets)

    def close(self) -> None:
        """Close them; the file goes too, unless it is another's by now."""
        if isinstance(self.address, UnixAddress) and self._file is not None:
            path = Path(self.address.path)
            with suppress(OSError):
                if _identity(path.lstat()) == self._file:
                    path.unlink()
        for sock in self.sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def bind_admin(address: ListenAddress | UnixAddress) -> AdminSockets:
    """Listen on `address`. Raises `OSError` if it is taken or can't be had."""
    if isinstance(address, ListenAddress):
        return AdminSockets(address, tuple(bind(address)))
    path = Path(address.path)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Before the first `chmod` could be done, somebody might have connected. No other thread makes files meanwhile.
    mask = os.umask(0o777 & ~_PRIVATE)
    try:
        sock.bind(address.path)
        identity = _identity(path.lstat())
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    admin = AdminSockets(address, (sock,), identity)
    try:
        # A directory's default access list may have widened it.
        path.chmod(_PRIVATE)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        admin.close()
        raise
    return admin


def obstacle(address: ListenAddress | UnixAddress | None) -> str | None:
    """Why `address` can't be listened on, as far as can be seen without trying; None if nothing speaks against it."""
    if not isinstance(address, UnixAddress):
        return None
    path = Path(address.path)
    try:
        found = path.lstat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            return f"there is no directory {path.parent}"
        return None if os.access(path.parent, os.W_OK | os.X_OK) else f"{path.parent} can't be written to"
    except OSError as error:
        return error.strerror or str(error)
    return None if stat.S_ISSOCK(found.st_mode) else "there is a file of that name that is no socket"


def _remove_stale(path: Path) -> None:
    """Take away the file of a socket that nobody listens on."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "there is a file of that name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            pass
        except (BlockingIOError, TimeoutError):
            # Too busy to take us: Linux says so at once, others let us wait.
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    with suppress(FileNotFoundError):
        # Another may have taken the same file away and put its own there.
        if _identity(path.lstat()) == _identity(found):
            path.unlink()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
