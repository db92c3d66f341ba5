"""What goes into the image and what is left out, with the reasons. docs/image.md says the same to its readers."""

from __future__ import annotations

from typing import Final

SUITE: Final = "bookworm"
"""The Debian release."""
PYTHON: Final = "3.11"
"""Its Python, and the oldest that the project supports."""

DAEMONS: Final = ("statusd", "preflightd", "opsd")
"""As `common.daemons` has them, which can't be imported here: the image is built by a Python without the wheels."""

USER: Final = 65532
"""Its number is what an orchestrator looks at: not 0."""

PACKAGES: Final = (
    f"python{PYTHON}-minimal",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    "libc6",
    "libssl3",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "liblzma5",
    "libbz2-1.0",
    "libuuid1",
    "libgcc-s1",
    "gcc-12-base",
    "ca-certificates",
)
"""Debian's packages: the interpreter, and the libraries that it and the wheels are linked with."""

STDLIB: Final = f"usr/lib/python{PYTHON}"
SITE: Final = "usr/lib/python3/dist-packages"
BILL: Final = "usr/share/sbom/run-status-daemons.cdx.json"
"""What all of it is, in CycloneDX; the image's labels name it, and scanners know it by the end of its name."""

LEFT_OUT: Final = {
    "usr/lib/*-linux-gnu/gconv/*": "iconv's tables: Python has codecs of its own, and nothing else converts text",
    "usr/lib/*-linux-gnu/engines-3/*": "OpenSSL's engines, which no configuration here loads",
    "usr/lib/*-linux-gnu/ossl-modules/*": "OpenSSL's legacy algorithms: no TLS that the daemons speak has any of them",
    "usr/lib/*-linux-gnu/libmvec*": "vectorised mathematics, for programs that are compiled for it",
    "usr/lib/*-linux-gnu/audit/*": "for debugging the loader",
    "usr/sbin/*": "scripts of packages, for a shell that is not there",
    "usr/share/doc/*/[!c]*": "documentation; each package's copyright file stays",
    "usr/share/doc/*/changelog*": "documentation; each package's copyright file stays",
    "usr/share/man/*": "manual pages",
    "usr/share/lintian/*": "for building packages",
    "usr/share/binfmts/*": "for starting .pyc files as programs",
    "usr/lib/binfmt.d/*": "for starting .pyc files as programs",
    "etc/python*": "a hook that runs when Python starts and does nothing",
    f"{STDLIB}/sitecustomize.py": "a hook that runs when Python starts and does nothing",
    f"{STDLIB}/pydoc*": "help() at a prompt",
    f"{STDLIB}/test/*": "tests of Python",
    f"{STDLIB}/lib2to3/*": "translates Python 2",
    f"{STDLIB}/turtle*": "draws",
    f"{STDLIB}/sqlite3/*": "a database; its library is not there",
    f"{STDLIB}/lib-dynload/_sqlite3*": "a database; its library is not there",
    f"{STDLIB}/dbm/*": "databases; their libraries are not there",
    f"{STDLIB}/lib-dynload/_dbm*": "databases; their libraries are not there",
    f"{STDLIB}/curses/*": "a terminal; there is none",
    f"{STDLIB}/lib-dynload/_curses*": "a terminal; there is none",
    f"{STDLIB}/lib-dynload/readline*": "a terminal; there is none",
    f"{STDLIB}/lib-dynload/_codecs_*": "codecs of East Asia: all that the daemons read and write is UTF-8",
    f"{STDLIB}/distutils/*": "builds packages",
    f"{STDLIB}/unittest/*": "tests of others",
    f"{STDLIB}/doctest.py": "tests of others",
    f"{STDLIB}/xmlrpc/*": "a protocol that nothing here speaks",
    f"{STDLIB}/lib-dynload/_crypt*": "password files; its library is not there",
    f"{STDLIB}/lib-dynload/nis*": "password files; its library is not there",
    f"{SITE}/*/tests/*": "tests of the libraries",
    f"{SITE}/*/_tests/*": "tests of the libraries",
    f"{SITE}/bin/*": "programs of the libraries",
    f"{SITE}/*.pyi": "types, for editors",
}
"""Patterns of paths, as `fnmatch` has them, and why nobody misses them."""
