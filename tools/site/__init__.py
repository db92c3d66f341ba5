"""The site of the documents, which MkDocs makes.

documents.py  the documents of the repository, their links, and the files that these lead to; pure but for reading
hook.py       gives them to MkDocs (`mkdocs.yml`), each at its place in the repository
"""
