"""statusd: carries the messages of the Redis Pub/Sub channel `<runid>:<channel>` to browsers over WebSockets (SPEC 1).

settings     the variables with the prefix STATUS_
route        `/<runid>:<channel>` -> the Redis channel; `?gap=1`
topic        payloads -> `{"type":"status",…}` frames, but for those that are too large
daemon       the value that makes of `common` this daemon
jobs         what the platform's jobs say on a channel (pure)
watch        `statusd watch`: the choice of view (frames to words, plain lines, JSON) or terminal (colours and a bar)
until        a watch that ends with a job
cli          the command line: the daemon and its commands as one value; __main__: the process
"""
