"""Mutation testing: are the tests of a module failed by what they would have to notice? `make mutation`.

modules     which modules, and the unit tests that answer for each
mutants     what mutmut makes of a module: each change, under a name that outlives other changes of the file
trial       the tests of a module against mutants, drawn by a seed, until the minutes are used up
session     the process for that: it imports the module with all mutants in it, and lets pytest collect the tests, once
trials      a plugin of pytest that runs what was collected: a fork for each mutant
forks       forks that have a bound of the processor's time, of the clock, and a common deadline
results     what came out, kept in `docs/mutation/results.json`
reasons     why a mutant may survive, written by hand in `docs/mutation/reasons.toml`
page        both as `docs/mutation.md`
__main__    `python -m tools.mutation`

mutmut makes the mutants: all of a file in one source text, beside the original, with a switch for each. It is not what
runs them: it has pytest collect the tests anew for each mutant, and runs all of them without one again and again. Here
a fork of the process that has collected them runs those that call the mutated function, until one fails: a tenth of a
second of the processor's for most mutants, where `mutmut run` took more than a whole one.

What mutmut changes is the inside of functions without a decorator: constants, fields and properties are not among the
mutants. What a function did while its module was imported is done: a mutant of it is met only by who calls it later.
"""
