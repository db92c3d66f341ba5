"""The query of a Redis URL: its options, those of TLS as a value of their own, and the way back to text.

Pure. As in `url`, no error says any part of the URL.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, quote

import attrs

_CERT_REQS: Final = {"none": False, "optional": True, "required": True}
_FLAGS: Final = dict.fromkeys(("1", "t", "true", "y", "yes", "on"), True) | dict.fromkeys(
    ("0", "f", "false", "n", "no", "off"), False
)
COMMON_OPTIONS: Final = frozenset({"db", "username", "password"})
TLS_OPTIONS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "skip_verify"}
)
SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})
CLUSTER_OPTIONS: Final = frozenset({"pubsub"})
_ONCE: Final = COMMON_OPTIONS | TLS_OPTIONS | SENTINEL_OPTIONS | CLUSTER_OPTIONS


@attrs.frozen(kw_only=True)
class TLSOptions:
    """How a `rediss://` link checks the server, and which certificate it shows. Files are paths of PEM files."""

    verify: bool = True
    check_hostname: bool = True
    """Never true without `verify`."""
    ca_file: str | None = None
    """None is the system's certificate authorities."""
    cert_file: str | None = None
    key_file: str | None = None
    """None with a `cert_file` means that the file holds both."""


def read_options(query: str) -> dict[str, str]:
    """The options of a query by name, unknown ones too. Raises ValueError for a known one that is given twice."""
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options and name in _ONCE:
            raise ValueError(f"the option {name} is given twice")
        options[name] = value
    return options


def read_tls(options: dict[str, str]) -> TLSOptions:
    """What the options say about TLS. Raises ValueError."""
    reqs = options.get("ssl_cert_reqs", "").lower().removeprefix("cert_")
    if reqs and reqs not in _CERT_REQS:
        raise ValueError("ssl_cert_reqs must be none, optional or required")
    skip = _flag(options, "skip_verify", default=False)
    if skip and _CERT_REQS.get(reqs, False):
        raise ValueError("skip_verify and ssl_cert_reqs contradict each other")
    verify = not skip and _CERT_REQS.get(reqs, True)
    cert_file, key_file = options.get("ssl_certfile") or None, options.get("ssl_keyfile") or None
    if key_file and not cert_file:
        raise ValueError("ssl_keyfile needs ssl_certfile")
    return TLSOptions(
        verify=verify,
        check_hostname=_flag(options, "ssl_check_hostname", default=True) and verify,
        ca_file=options.get("ssl_ca_certs") or None,
        cert_file=cert_file,
        key_file=key_file,
    )


def tls_pairs(tls: TLSOptions | None) -> dict[str, str | None]:
    """The options of TLS by name, None where it is the default's."""
    if tls is None:
        return {}
    return {
        "ssl_cert_reqs": None if tls.verify else "none",
        "ssl_check_hostname": "false" if tls.verify and not tls.check_hostname else None,
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.cert_file,
        "ssl_keyfile": tls.key_file,
    }


def write_options(pairs: dict[str, str | None]) -> str:
    """Those that are not None as a query, with its question mark; empty if there is none."""
    query = "&".join(f"{name}={quote(value, safe='/*')}" for name, value in pairs.items() if value)
    return f"?{query}" if query else ""


def utf8(text: str | None) -> str | None:
    """The text, None if it is empty. Raises ValueError where its bytes were not UTF-8."""
    # urllib decodes bytes that are not UTF-8 to U+FFFD: another user, another password.
    if text and "\ufffd" in text:
        raise ValueError("the percent-encoded user name or password is not UTF-8")
    return text or None


def _flag(options: dict[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name, "").lower()
    if text and text not in _FLAGS:
        raise ValueError(f"{name} must be true or false")
    return _FLAGS.get(text, default)
