"""What is run by hand or by `make`, and is no part of what is installed.

image        the image's root file system: `make image`
manuals      man pages and shell completion: `make manuals`
sbom         what the daemons are made of: `make sbom`
release      sdist and wheel, checked as they will be installed: `make release-check`
covered      how many branches of each package the tests take: `make coverage`
made         when what is made here says that it was made
mutation     whether the unit tests notice a change of the code: `make mutation`
site         the documents as a site: `make docs`
screenshot   the picture of opsd's page in README.md: `make screenshot`
"""
