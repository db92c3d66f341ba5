"""A client's socket served: what `web` reads and writes, joined to what `fanout` hears of Redis.

server          one accepted socket from its first byte to its last: a page, a refusal, or a handshake
exchange        its request and its answer: read, written, counted, logged
conversations   the WebSockets that are open now, each from its 101 to the line that says how it ended
"""
