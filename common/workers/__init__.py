"""Several processes that serve one port as one daemon (SPEC 2, WORKERS).

supervisor   the parent: starts the workers, restarts one that died, passes the end on
worker       a worker's process
member       a worker's side of it: tells the parent whether it is ready, learns whether all are, asks for all metrics
channel      JSON lines between the two, over a socket pair

The listening sockets are made once, by the parent, and inherited: the kernel hands each new connection to one of those
that accept, and a second instance of the daemon still finds the port taken.
"""
