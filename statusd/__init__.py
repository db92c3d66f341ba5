"""statusd: carries the messages of the Redis Pub/Sub channel `<runid>:<channel>` to browsers over WebSockets (SPEC 1).

settings     the variables with the prefix STATUS_
route        `/<runid>:<channel>` -> the Redis channel
topic        payloads -> `{"type":"status",…}` frames
daemon       the value that makes of `common` this daemon
watch        `statusd watch`: view (frames to words, plain lines) and terminal (colours and a progress bar)
__main__     the command line
"""
