"""The demo, `python -m deploy.demo`: a private Redis, statusd, a simulated run, and the terminal client, all real.

__main__.py         the command line
stage.py            everything started in order, watched while it runs, and ended in order
statusd_process.py  statusd as a child process
simulated_run.py    what a hydrology run would publish; pure
ledger.py           what was published against what arrived; pure
"""
