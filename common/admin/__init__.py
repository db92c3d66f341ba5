"""The operator's listener of a daemon (SPEC 2, ADMIN_LISTEN_ADDR): what it is doing, told to whoever runs it.

process_stats     what the system and the interpreter say of a process
probe             reads one serving process; notices changes
snapshot          everything about one process at one moment
tasks             the tree of Trio's tasks, as values
yielding          how both are made in steps that nobody notices
quota             how often a worker is asked for a snapshot
telemetry_source  what the listener wants to know, and how a process that serves by itself answers; of several workers
                  `common.workers.fleet_telemetry` tells
feed              changes, for as long as somebody listens to them
access            who may ask: the Host header, the token
routes            what is asked
sockets           the address: bound once, a Unix socket's file removed at the end
server            connections, few and bounded; a barrier around all of it

It is bound in the process that the operator started, and nowhere near the public port. While nobody asks, nothing here
runs but one task that accepts.
"""
