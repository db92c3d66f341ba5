"""Assembles the image's root file system from Debian's packages and the lock's wheels: `make image`.

contents     what goes in and what is left out, with the reasons
debian       Debian's packages, unpacked without what is left out
bill         what all of it is, as an SBOM within the image
python       the wheels, their bytecode, and the daemons' programs

The `Containerfile` runs the same in a stage of its own and copies the result into an empty image. No root is needed,
and nothing of the packages is run but the interpreter, to compile.
"""
