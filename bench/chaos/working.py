"""Whether everything works again, as an operator and every patient client would see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.chaos.crowd import last_message, name_of
from bench.chaos.programme import QUIET
from bench.chaos.stage import WORKERS
from tests.support.preflight import frame_of, read_hash
from tests.support.raw import open_redis

if TYPE_CHECKING:
    from bench.chaos.crowd import Crowd, Guest, Visit
    from bench.chaos.stage import Stage
    from bench.chaos.writer import Writer
    from tests.support.load import Traffic


class Working:
    """Whether everything works: asked again and again after an act. `obstacle` says what does not, in words."""

    def __init__(self, stage: Stage, crowd: Crowd, traffic: Traffic, writer: Writer) -> None:
        self.writer = writer
        self.obstacle = "nothing"
        self._stage = stage
        self._crowd = crowd
        self._traffic = traffic
        self.begin()

    def begin(self) -> None:
        """From now on: what was sent before counts for nothing."""
        self.obstacle = "nothing"
        self._since = {channel: len(sent) for channel, sent in self._traffic.sent.items()}
        self._written = self.writer.number

    async def check(self) -> bool:
        """Both daemons are healthy, with all their workers, and every patient client is there and up to date."""
        for name, service in self._stage.services.items():
            if not await service.healthy():
                self.obstacle = f"{name} is not healthy"
                return False
            if len(service.workers) != WORKERS:
                self.obstacle = f"{name} has {len(service.workers)} workers"
                return False
        async with open_redis(self._stage.redis) as control:
            quiet = {run: frame_of(await read_hash(control, run)) for run in QUIET}
        for guest in self._crowd.steady:
            visit = guest.visit
            if visit is None:
                self.obstacle = f"{guest.daemon} {guest.path} ({'far' if guest.far else 'near'}) has no conversation"
                return False
            if not self._is_current(guest, visit, quiet):
                self.obstacle = f"{guest.daemon} {name_of(visit)} is not up to date"
                return False
        return True

    def _is_current(self, guest: Guest, visit: Visit, quiet: dict[str, bytes]) -> bool:
        place = guest.path[1:]
        if guest.daemon == "statusd":
            fresh = {sent.frame for sent in self._traffic.sent[place][self._since[place] :]}
            return any(text in fresh for text in visit.client.texts[-40:])
        if place in quiet:
            return last_message(guest) == quiet[place]
        return any(self.writer.truths[place].get(text, 0) > self._written for text in visit.client.texts[-40:])
