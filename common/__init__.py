"""What every daemon shares; it knows nothing of runs, checklists or dashboards.

early            what must hold before anything else is imported: signals are noted, standard streams exist
config/          environment -> frozen settings; durations, sizes, secrets; warnings as values
secret           a password or token, masked everywhere, its file read anew each time
names            a name's addresses, and an open connection to one of them
quote            what strangers say, fit for a log line or an answer
backoff          jittered delays as a pure function (injected rng)
logs             one JSON object a line, written by a thread of its own
metrics          counters, and the families that they become; disabled they cost nothing
histogram        durations by bucket
tracing          traces, as the code that is traced knows them; off they are nobody's
otel             traces that are sent; imported only where they are on (extra otel)
disconnect       why a conversation ended, as a value
labels           every value that a label of the daemons' series can have
redis/           bytes <-> values -> one live connection -> a link kept alive
guesses          wrong tokens, by address
web/             the HTTP head, one client's bytes, one conversation, heartbeats, the listener
fanout           Topic and Hub: who listens to what, and is told of gaps
serving/         one client's socket from its first byte to its last: pages, refusals, conversations
exposition       collectors -> the text of a scrape, for one process or for several that answer as one
fleet            what one process of a daemon wants to know of the others
daemon           a service from its start to drained
daemons          the platform's daemons, as the others have to know them: names, prefixes, ports
telemetry/       what a daemon says of itself, as values: written by admin, read by opsd
admin/           the operator's listener: what a daemon is doing, live
signals          how a process is told to end
notify           what the service manager that started the process is told of it
activation       listening sockets that it made, and keeps
healthcheck      whether a daemon lives, as an exit code
modules          how a process of ours starts another
foreground       a command that a person or a pipe waits for
process          the process that an operator starts of a daemon that serves WebSockets
workers/         several processes that serve one port as one daemon
check            `<daemon> check`: the effective configuration, and whether Redis can be reached
collector        how the cyclic collector runs in a serving process
exits            the exit codes
start            what every daemon does before it serves
cli              the command line that every daemon has
daemon_cli       that of the daemons that serve WebSockets
embedded         a private redis-server for the demo, `--embedded-redis` and the tests
embedded_group   what private servers that belong together share: started and ended as one, asked, waited for
embedded_sentinel   a private primary with replicas under three sentinels
embedded_cluster   a private Redis Cluster
watch/           the terminal client
version          which version this is

Imports go one way: daemon_cli -> cli, process -> workers -> admin -> daemon -> serving -> fanout -> web -> config ->
redis -> names, backoff (docs/architecture.md has all of it). Nothing here imports a daemon.
"""
