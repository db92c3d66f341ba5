"""One Redis connection per process: bytes, a live connection, a link that is kept alive.

url            what a Redis URL says; pure, and the only part that `common.config` knows
errors         what can go wrong, one tree
resp           bytes <-> values, without I/O
transport      the stream to the server: TCP, TLS or a Unix socket
handshake      the first words on a new connection
connection     one live connection: requests with a deadline, pushes; ends with its first error
subscription   one channel that a link listens to, whatever becomes of its connections
link           a connection kept alive: backoff, resubscription, resync; lives as long as the daemon
"""
