"""What a daemon says of itself, as values: the same for who says it and for who is told.

fields   the kinds of figures: how each is read, written and added up (pure)
values   one worker, those that are gone, the daemon as a whole, the followers of a channel (pure)
parse    bytes from another process -> values, bounded (pure)

`common.admin` fills the values in and renders them, `common.workers` sends a worker's to its parent, opsd reads them.
The two ends may be of different versions: what is missing is 0, and what is unknown is passed over. A new figure is one
field in `values`.
"""
