"""A client's bytes as frames (RFC 6455), one frame at a time. Pure.

wsproto's decoders do the work: heads, masks, UTF-8 across fragments, which frame may follow which. Its `Connection` is
not used: it holds its frames in a generator that holds it, so that each one would wait for the cyclic collector, and it
hands out everything that was fed, where fairness wants to stop after any frame (`turns`).

The usual pong is told without the parser. Nearly everything that clients send is `{"type":"pong"}` in one frame that
arrives by itself: 1,000 times a second with 5,000 clients. Recognised here it costs a comparison instead of wsproto's
generic way; the bench's row `idle-5000` shows what that saves. It may be recognised only where a message can begin
(`FrameParser.between_messages`): the same bytes in the middle of another frame are data, and in the middle of a
fragmented message a breach of the protocol.
"""

from __future__ import annotations

from typing import Final

from wsproto.frame_protocol import CloseReason, Frame, FrameDecoder, MessageDecoder, Opcode, ParseFailed

PONG: Final = b'{"type":"pong"}'
"""A heartbeat's answer (SPEC 1), as browsers write it."""

_PONG_HEAD: Final = bytes((0x81, 0x80 | len(PONG)))  # a whole text message, masked
_PONG_SIZE: Final = len(_PONG_HEAD) + 4 + len(PONG)
_PONG_NUMBER: Final = int.from_bytes(PONG, "big")

_CLOSE_HEAD: Final = b"\x88"
_HEAD_SIZE: Final = 6  # of a control frame, its mask included
_LENGTH: Final = 0x7F

_REGISTERED: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
"""The codes below 3000 that a close frame may carry (RFC 6455, section 7.4.1, and IANA's registry of close codes)."""
_UNREGISTERED: Final = range(3000, 5000)
"""Those of libraries and applications."""


class Breach(Exception):  # noqa: N818 - the client's doing, not a fault of ours
    """The client broke the protocol; `bad_text` when it was with bytes that are not UTF-8 where text is due."""

    def __init__(self, text: str, *, bad_text: bool) -> None:
        super().__init__(text)
        self.bad_text = bad_text


def is_pong(data: bytes) -> bool:
    """Whether `data` is exactly one whole frame that holds the usual pong (RFC 6455, sections 5.2 and 5.3)."""
    if len(data) != _PONG_SIZE or not data.startswith(_PONG_HEAD):
        return False
    mask = (data[2:6] * 4)[: len(PONG)]
    return int.from_bytes(data[6:], "big") ^ int.from_bytes(mask, "big") == _PONG_NUMBER


def is_close(data: bytes) -> bool:
    """Whether `data` is exactly one whole close frame. After a breach this is all that can still be told."""
    return len(data) >= _HEAD_SIZE and data.startswith(_CLOSE_HEAD) and len(data) == _HEAD_SIZE + (data[1] & _LENGTH)


class FrameParser:
    """Takes a client's bytes, cut anywhere, and gives its frames.

    After a close frame or a breach it is spent.
    """

    __slots__ = ("_frames", "_messages")

    def __init__(self) -> None:
        self._frames = FrameDecoder(client=False)
        self._messages = MessageDecoder()

    @property
    def between_messages(self) -> bool:
        """Whether everything fed has been given, and the next byte begins a message."""
        return self._messages.opcode is None and self._frames.header is None and not len(self._frames.buffer)

    def feed(self, data: bytes) -> None:
        """Take the next bytes; `next` gives what they are."""
        self._frames.receive_bytes(data)

    def next(self) -> Frame | None:
        """The next frame, or as much of a data frame as is there; None while that can't be told.

        A control frame comes whole, its payload as bytes. Raises `Breach`.
        """
        try:
            frame = self._frames.process_buffer()
            if frame is None:
                return None
            if not frame.opcode.iscontrol():
                return self._messages.process_frame(frame)
        except ParseFailed as error:
            raise Breach(str(error), bad_text=error.code is CloseReason.INVALID_FRAME_PAYLOAD_DATA) from None
        if frame.opcode is Opcode.CLOSE:
            _check_close(bytes(frame.payload))  # type: ignore[arg-type] # text is in data frames only
        return frame


def _check_close(payload: bytes) -> None:
    """Raise `Breach` unless a close frame may have this payload (RFC 6455, sections 5.5.1 and 7.4)."""
    if not payload:
        return
    if len(payload) == 1:
        raise Breach("a close frame of one byte", bad_text=False)
    code = int.from_bytes(payload[:2], "big")
    if code not in _REGISTERED and code not in _UNREGISTERED:
        raise Breach(f"a close frame with the code {code}", bad_text=False)
    try:
        payload[2:].decode()
    except UnicodeDecodeError as error:
        raise Breach(f"a close frame whose reason is not UTF-8: {error.reason}", bad_text=True) from None
