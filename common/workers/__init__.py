"""Several processes that serve one port as one daemon (SPEC 2, WORKERS).

lines            JSON lines between a parent and a worker, over a socket pair
channel          questions and answers over them; either side may ask
questions        what they ask each other
supervisor       the parent: starts the workers, replaces one that died or hangs, passes the end on
spawn            a worker's process, started
inherited        what it gets from its parent, as a command line
worker_handle    one worker as its parent knows it: what it has said, and for how long it has not answered
desk             all of them, and what those that are gone have left: the figures of a scrape, what has changed
fleet_telemetry  the same for the operator's listener (`common.admin`)
worker           a worker's process, and its share of the daemon's limits
answers          what it answers
member           what it asks of the other processes, and hears of the end
orders           how a worker is told to end, and what becomes of its share of the port

The listening sockets are made once, by the parent, and inherited: the kernel hands each new connection to one of those
that accept, and a second instance of the daemon still finds the port taken.
"""
