"""What is run by hand or by `make`, and is no part of what is installed.

image/         the image's root file system
site/          the documents as a site
screenshot.py  the picture of opsd's page in README.md
"""
