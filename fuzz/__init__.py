"""Properties that hold of any input, looked for with Hypothesis: seconds in the suite, hours at night.

target      what a target is: named properties, each a function of drawn values or a state machine
pieces      bytes in pieces, cut anywhere
targets/    one module per target
registry    all of them
__main__    `python -m fuzz`: run them for long, with a fresh seed
"""
