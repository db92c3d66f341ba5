"""Mutation testing: are the tests of a module failed by what they would have to notice? `make mutation`.

modules     which modules, and the unit tests that answer for each
tree        a copy of the source tree in which mutmut may write, and its configuration
plugin      of pytest, for its life in mutmut
mutants     what mutmut makes of a module: each change, under a name that outlives other changes of the file
trial       the tests of a module against mutants, drawn by a seed, until the minutes are used up
results     what came out, kept in `docs/mutation/results.json`
reasons     why a mutant may survive, written by hand in `docs/mutation/reasons.toml`
page        both as `docs/mutation.md`
__main__    `python -m tools.mutation`

mutmut does the work: it writes all mutants of a file into it, beside the original, and forks a process for each that
runs the tests with this one switched on. That costs half a second where a new process with Python and pytest, as
cosmic-ray starts it, takes two to four. What it changes is the inside of functions without a decorator: constants,
fields and properties are not among the mutants.
"""
