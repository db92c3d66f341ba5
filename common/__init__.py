"""What every daemon shares; it knows nothing of runs, checklists or dashboards.

config/          environment -> frozen settings; durations, sizes, secrets; warnings as values
secret           a password or token, masked everywhere, its file read anew each time
backoff          jittered delays as a pure function (injected rng)
logs             one JSON object a line, written by a thread of its own
metrics          counters, and how Prometheus reads them; disabled they cost nothing
redis/           bytes <-> values -> one live connection -> a link kept alive
fanout           Topic and Hub: who listens to what
web/             the HTTP head, one client's bytes, one conversation, heartbeats, the listener
daemon           a process from its start to drained
check            `<daemon> check`: the effective configuration, and whether Redis can be reached
cli              the command line that every daemon has
embedded         a private redis-server for the demo, `--embedded-redis` and the tests
watch, watch_*   the terminal client

Imports go one way: daemon -> web, fanout -> redis -> backoff, config. Nothing here imports a daemon.
"""
