"""What the daemons are made of, as a CycloneDX document: `make sbom`, and the image's own.

lock         a lock's text -> the packages that it names, their hashes and who asked for them (pure)
licence      a package's metadata -> its licence in SPDX's words, where it can be known (pure)
component    one part: a package of Python or of Debian, with its package URL
document     parts -> the document (pure)
python       the packages of a lock as parts

Nothing here needs more than Python: the image is built where nothing else is. The tests hold the documents against
CycloneDX's own schema.
"""
