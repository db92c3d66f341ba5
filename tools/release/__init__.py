"""sdist and wheel, checked as they will be installed: `make release-check`; `.github/workflows/release.yml` publishes.

versions     whether the project, its changelog, the image and the tag are of one version; the notes of it (pure)
archive      an sdist whose bytes depend on its files alone (pure)
source       what the sdist is made of, in a place of its own: the packages, and man pages and completion
build        sdist and wheel, made twice to see that they come out the same
installed    the wheel as pipx installs it: its commands, pages and completion
"""
