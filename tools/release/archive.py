"""An sdist whose bytes depend on the names, rights and contents of its files, and on one moment. Pure.

setuptools writes into it who made it, when each file was last touched, and the time of day.
"""

from __future__ import annotations

import gzip
import io
import tarfile


def normalised(sdist: bytes, epoch: int) -> bytes:
    """The same files in the order of their names, all of `epoch` (seconds since 1970) and of nobody.

    Raises tarfile.TarError for what is no archive.
    """
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            content = old.extractfile(member) if member.isfile() else None
            new.addfile(_anonymous(member, epoch), content)
    return gzip.compress(packed.getvalue(), mtime=epoch)


def _anonymous(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    plain = member.replace(mtime=epoch, mode=mode, uid=0, gid=0, uname="", gname="", deep=False)
    # They would go before what was just said, and hold the time to the nanosecond.
    plain.pax_headers = {}
    return plain
