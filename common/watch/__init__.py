"""The terminal client of the daemons that serve WebSockets: one socket, kept alive, shown frame by frame.

client    connects, answers pings, notices a dead server, reconnects; a process around it
socket    a trio-websocket client whose stream is ours to close
words     what is said about it: URLs, refusals, endings, and text from outside made harmless (pure)

How a frame looks is each daemon's own (`statusd.view`).
"""
