"""Where the figures come from: each source on its own, none able to delay or break another. What they say is
`common.telemetry`'s to read.

target     what OPS_TARGETS says: names and places (pure)
events     server-sent events: bytes -> events (pure)
budget     how many pieces a source may send (pure)
transport  HTTP to a source, in laps that hold up nobody
fetch      bounded requests: deadlines, sizes, no redirects, no proxies
interface  what every source has: a name, its newest reading, its snapshots
polled     a source that is asked once a second: the telemetry API of OPS_WORKERS_URL
daemon     one daemon: its events as they come, its status once a second
configured all sources that the settings name
"""
