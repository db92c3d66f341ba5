"""opsd, the operator's daemon: what the other two do, how well, and what it was lately, on one page (SPEC 7).

settings        what it can be told
sources/        where the figures come from: each daemon's telemetry, the outside API; each on its own
windows         what growing counters did lately: per second, per minute (pure)
modes           the traffic mode and when it changes (pure); thresholds: what is told of it (pure)
crew            how many workers a source has, and should have (pure)
events          what changes, as values (pure)
traffic         the rates of all daemons, their mode, their CPU time (pure)
changes         the events so far, and a line of the log for each
aggregate       all readings -> one vector (pure)
vector          the status document as values; schema: its JSON Schema (pure)
board           the newest values and the newest status; what everything else reads
history         a sample of the status every few seconds, kept in Redis; keys: where (pure)
alerts          what changes, posted to a webhook; ledger: what of it is to be told (pure)
viewers         how many clients follow a run
tmux/           the local tmux: its sessions, ours started and stopped
launch          by which commands ours is made (pure)
auth            who may do what (pure)
places          how many sockets and requests an address may hold (pure)
tally           warnings that count
heads           what a request's head must be (pure); http1: Hypercorn's protocol, of HTTP/1.1 only
bounded_stream  a client's socket, with deadlines
cli, check, process  the command line; `opsd check`; the process that serves
endpoints       the table of routes; openapi: the document made of it (pure)
prometheus      the status as Prometheus series; cpu: one counter that never falls (pure)
api/            the endpoints, by subject
live, pages, app, serve  the web application on top: the WebSocket, the page's files, the gate, its listener
web/            the page itself, as the browser gets it

A figure's way: a daemon's event -> sources.daemon -> Board (counted into windows, put into a vector) -> a new version
-> every live WebSocket. It imports `common`, never another daemon.
"""
