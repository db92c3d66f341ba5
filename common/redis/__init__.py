"""Redis, as few connections of a process: bytes, a live connection, a link that is kept alive.

url            what a Redis URL says; pure; this and `tls` are the only parts that `common.config` knows
url_options    its query, and TLS' part of it as a value; pure
errors         what can go wrong, one tree
resp           bytes <-> values, without I/O
tls            TLS: its files, and what it says when it fails
transport      the stream to the server: TCP, TLS or a Unix socket
handshake      the first words on a new connection
opening        a new connection, from its name to the end of the handshake, within one deadline
slots          which node of a cluster owns which slot; pure
policy         what a link may do and for how long
answers        what a connection awaits, one value for each answer
connection     one live connection: answers in order, pushes, a watchdog; ends with its first error
reads          reads of large values, over connections of their own beside a live one
endpoint       where a link's next attempt goes
election       what sentinels answer, and whom to believe; pure
sentinel       one sentinel, asked all the time
sentinels      the endpoint of a group that sentinels watch
succession     from one server to the next without a gap; the former one is read until it closes
repeats        messages that come over two connections, told once; pure
sessions       who makes a link's sessions
session        what a link asks over one connection, and over those for its reads, within which time
role           which part the server plays, and what becomes of a link on a replica
attempts       an outage's attempts and the delays between them
subscription   one channel that a link listens to, whatever becomes of its connections
handler        who is told what happens on a link
health         how a node of a cluster sees it: CLUSTER INFO
node           one connection to one node of a cluster
wanted         what is to be heard in a cluster, and what that needs
home           the connection to one primary, for as long as it is of use
homes          which node each channel of a cluster is heard at, and how it moves
discovery      the first node of a cluster that can be had
survey         the map of a cluster, read again
anchor         the connection to any node of a cluster
cluster        the link to a cluster
state          what a link is doing and over which servers, as values
link           a connection kept alive, resubscribed and told of; lives as long as the daemon
links          what a daemon asks of Redis, and which link a URL asks for
"""
