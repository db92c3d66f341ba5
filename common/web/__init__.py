"""What stands between a socket and a conversation; nothing here knows who listens to what, nor of Redis.

In the order in which a client's bytes meet it:

listener     binds the port and accepts; `door`: whether it accepts at all
admission    how many sockets there may be, in all and of one address
accepted     a socket that was accepted, and how it is left to a client that was answered
stream       a client's socket that reads only when there is something to read
http         reads one request head and writes plain answers
path         request target -> path and query, checked names
origin       which pages may open a socket; whose word about a client's address is believed (`forwarded`)
handshake    head -> upgrade, page or refusal: a pure decision
peer         one WebSocket conversation (`parser` gives a client's frames, `turns` say when they are heard)
wire         the only writer of a client's bytes, from a bounded backlog (`frames` are what it writes)
heartbeat    the process's one pinger, and the end of those who stay silent
"""
