"""preflightd: keeps each browser's checklist equal to a run's Redis hash (SPEC 1, preflightd payload).

settings       the variables with the prefix PREFLIGHT_
route          `/<runid>` -> the keyspace channel of the run hash
rules          what a checklist's rules are, as values
language       TOML -> rules, and back to a document (pure)
evaluator      rules -> functions of a hash (pure)
checklist      the hash -> what clients are told, by the rules of a file: the package's own is `checklist.toml`
watcher        one run hash, read again whenever it may have changed
notifications  whether Redis says when a hash changes
daemon         the value that makes of `common` this daemon
checklist_command   `preflightd checklist`: the rules as a table
evaluate       `preflightd evaluate`: the checklist of a JSON object, without Redis
watch          `preflightd watch`: the choice of view (frames to changes, plain lines) or terminal (a live table)
cli            the command line: the daemon and its commands as one value; __main__: the process
"""
