"""The HTTP API: each endpoint reads what others keep ready, so that no answer waits for a source.

parts     what the application is made of
query     what a query may say (pure)
status    the status, its schema, its past and its changes, as JSON and as series; the table of routes
workers   the workers, their snapshots, who follows a run
tmux      the local tmux
page      the page, what it is made of, and who looks at it
health    for machines
routes    all of it as Starlette's routes, by the table `opsd.endpoints`

Each class lives as long as the application. Who may call what is decided before (`opsd.app`). Imports go one way:
routes -> the subjects -> query, parts.
"""
