"""The local tmux: its sessions, and one of the platform's own daemons that is started and stopped.

status    what is there, as values, and as the API tells it (pure)
listing   what the program is asked, as lists of arguments, and what its answers mean (pure)
script    the commands that make the session (pure but for the search of programs on PATH)
logs      where what the windows print is kept
program   one call of the tmux program: its output, its end at the deadline
errors    why tmux did not do it
session   `Tmux`: the session's life, one call at a time

Imports go one way: session -> program, logs, script, listing -> status, errors.
"""
