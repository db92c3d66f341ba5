"""A run's status channel: what is published becomes `{"type":"status","data":<string>}` frames (SPEC 1)."""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Final

from common.fanout import Topic
from common.web.frames import Frames, text_frame

if TYPE_CHECKING:
    from common.logs import Logger
    from common.metrics import Counters

_HEAD: Final = b'{"type":"status","data":'


def status_frame(payload: bytes) -> bytes:
    """The frame for one payload. Bytes that are not UTF-8 become U+FFFD; only what JSON requires is escaped."""
    return text_frame(_HEAD + encode_basestring(payload.decode("utf-8", "replace")).encode() + b"}")


class StatusTopic(Topic):
    """Forwards every payload of at most `max_payload` bytes; a larger one is dropped, said and counted."""

    def __init__(self, channel: bytes, *, max_payload: int, counters: Counters, log: Logger) -> None:
        super().__init__(channel)
        self._max_payload = max_payload
        self._counters = counters
        self._log = log

    async def receive(self, payloads: list[bytes], read_at: float) -> int:
        """See `Topic`: every client gets every frame."""
        del read_at
        frames = self.encode(payloads)
        return frames.number * await self.broadcast(frames) if frames.number else 0

    def encode(self, payloads: list[bytes]) -> Frames:
        """One frame a payload, in order, but for those that are too large."""
        frames = [status_frame(payload) for payload in payloads if self._fits(payload)]
        return Frames(b"".join(frames), len(frames))

    def _fits(self, payload: bytes) -> bool:
        if len(payload) <= self._max_payload:
            return True
        self._counters.dropped["too_big"] += 1
        run_id, _, channel = self.channel.decode("ascii").partition(":")
        self._log.warning(
            "message dropped",
            run_id=run_id,
            channel=channel,
            reason="too_big",
            bytes=len(payload),
            limit=self._max_payload,
        )
        return False
