"""Man pages and shell completion of the three commands, made from their parsers: `make manuals`.

roff         text -> the requests of a man page (pure)
documented   what is told of a command, as a value
synopsis     what a parser takes, as values: options, arguments, commands (pure)
page         a command -> its man page (pure)
completion   a command -> what bash, zsh and fish complete of it, by shtab
tree         all of it by path, laid as below `/usr/share`
"""
