"""What can be done to a target, one scenario a file: a frozen value with a `measure` that blocks until it knows.

Each has `clients`, how many connect; `seconds`, how long is measured (for what ends by itself, how long may be waited
for it); and `estimate`, the seconds that `measure(site)` may take, roughly. `measure` opens a crowd of its own, leaves
nothing behind, and raises LoadError when the load could not be applied.
"""
