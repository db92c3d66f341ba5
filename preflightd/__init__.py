"""preflightd: keeps each browser's checklist equal to a run's Redis hash (SPEC 1, preflightd payload).

settings       the variables with the prefix PREFLIGHT_
route          `/<runid>` -> the keyspace channel of the run hash
checklist      the hash -> what clients are told (pure)
watcher        one run hash, read again whenever it may have changed
notifications  whether Redis says when a hash changes
daemon         the value that makes of `common` this daemon
evaluate       `preflightd evaluate`: the checklist of a JSON object, without Redis
watch          `preflightd watch`: view (frames to changes, plain lines) and terminal (a live table)
__main__       the command line
"""
