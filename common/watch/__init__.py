"""The terminal client of the daemons that serve WebSockets: one socket, kept alive, shown frame by frame.

show      what it says to whoever shows it, and how a show ends it
client    connects, answers pings, notices a dead server, reconnects; a process around it
socket    a trio-websocket client whose stream is ours to close
address   what the arguments of `watch` mean (pure)
words     what is said about it: URLs, refusals, endings, and text from outside made harmless (pure)
view      plain lines, and the choice between them and a terminal's view
terminal  lines on a terminal; needs the extra `cli`
command   the command `watch` of a daemon

How a frame looks is each daemon's own (`statusd.view`, `preflightd.view`).
"""
