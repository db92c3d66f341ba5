"""Several processes that serve one port as one daemon (SPEC 2, WORKERS).

supervisor   the parent: starts the workers, replaces one that died or hangs, passes the end on
charge       one worker as its parent knows it: what it has said, and for how long it has said nothing
spawn        a worker's process, started
worker       a worker's process
member       a worker's side of it: tells the parent that it lives and whether it is ready, hears of the end, asks for
             all metrics
orders       how a worker is told to end, and what becomes of its share of the port
channel      JSON lines between the two, over a socket pair

The listening sockets are made once, by the parent, and inherited: the kernel hands each new connection to one of those
that accept, and a second instance of the daemon still finds the port taken.
"""
