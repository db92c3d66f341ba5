"""What the daemons cost and how fast they are, measured side by side with honest peers.

Layout, in the order a run passes through it:

    __main__.py  `python -m bench`
    options.py   its command line: from arguments to rows
    rows.py      the catalogue: what is done, to whom, how often, and what must come of it
    schedule.py  what is still to be run, and how long that may take
    runner.py    rows and rounds, in which the targets take turns
    targets.py   what is measured: the daemons and their peers, each a process from start to stop
    scenarios/   what is done to a target, one file each: stream, burst, handshakes, memory, stalled
    crowd.py     the load generator: many clients and the writer in one cheap loop
    feed.py      what is written to Redis, and the frames that clients must get for it
    ledger.py    who got what, and when
    wire.py      the client's side of RFC 6455, as pure functions of bytes
    cpu.py       CPU time of process trees, from /proc
    figures.py   the names and units of what is measured
    outcome.py   from what the generator saw to figures and the marks of runs that should be doubted
    stats.py     percentiles, medians with spread, ratios
    goals.py     what a row must reach, and whether it did
    report.py    from runs to the document
    table.py     the document as a page
    plot.py      the document as a picture
    store.py     the document as files
    nights.py    the ratios of two documents: which of them got worse
    compare.py   `python -m bench.compare`: the same as a page, and as an exit status
    load.py      apart from these: browsers as k6 plays them, and a restart of Redis
    drill.py     and a crowd whose figures are held against the metrics, in fair weather and in bad
    said.py      what a daemon said, counted
    sources.py   apart from these: opsd's answers while a source of its telemetry is hostile
    peers/       the bridges that the daemons are compared with, one folder each

`README.md` says what is measured and how to read it.
"""
