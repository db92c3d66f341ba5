"""The demo, `python -m deploy.demo`: a private Redis, both daemons, a simulated run, and their clients, all real.

__main__.py        the command line
stage.py           everything started in order, watched while it runs, and ended in order
daemon_process.py  a daemon as a child process
witness.py         the clients' shows, which count what they are shown
simulated_run.py   what a hydrology run would publish, and write to its hash; pure
ledger.py          what was published and written against what arrived; pure
"""
