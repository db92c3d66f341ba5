"""What the daemons cost and how fast they are, measured side by side with honest peers.

Layout, in the order a run passes through it:

    fanout.py    the row of statusd: its command line
    preflight.py the row of preflightd: its command line
    row.py       what rows share: rounds, the JSON document and the table
    feed.py      what is written to Redis, and the frames that clients must get for it
    targets.py   what is measured: the daemon and its peers, each a process from start to stop
    load.py      the load generator: many clients and the writer in one cheap loop
    ledger.py    who got what, and when
    wire.py      the client's side of RFC 6455, as pure functions of bytes
    cpu.py       CPU time of process trees, from /proc
    report.py    from what the generator saw to what is printed
    stats.py     percentiles, medians with spread, ratios
    peers/       the bridges that the daemon is compared with, one folder each

`README.md` says what is measured and how to read it.
"""
