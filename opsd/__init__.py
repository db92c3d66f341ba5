"""opsd, the operator's daemon: what the other two do, how well, and what it was lately, on one page (SPEC 7).

settings   what it can be told
sources/   where the figures come from: each daemon's telemetry, the outside API; each on its own
windows    what growing counters did lately: per second, per minute (pure)
modes      the traffic mode and when it changes (pure)
figures    all readings -> one vector (pure)
vector     the status document as values; schema: its JSON Schema (pure)
board      the newest values and the newest status; what everything else reads
history    a sample of the status every few seconds, kept in Redis
alerts     changes of the traffic mode, posted to a webhook
tmux       the local tmux: its sessions, ours started and stopped
auth       who may do what (pure)
api, live, pages, app, serve   the web application on top: JSON, the WebSocket, the page, its listener
web/       the page itself, as the browser gets it

A figure's way: a daemon's event -> sources.daemon -> Board (counted into windows, put into a vector) -> a new version
-> every live WebSocket. It imports `common`, never another daemon.
"""
