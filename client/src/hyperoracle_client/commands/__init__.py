"""The sub-commands of `hyperoracle` that this distribution brings, one module each.

Any distribution adds sub-commands through the entry-point group `hyperoracle.commands`. An entry
point is a function `register(subparsers) -> None` that adds one parser, named like the entry
point, and sets on it `parser.set_defaults(run=function)`, where `function(args) -> int` returns
the exit code. The first line of the docstring of `register`'s module is the command's summary in
`hyperoracle --help`; it is read from the source, and the module is imported only when its command
is asked for.
"""
