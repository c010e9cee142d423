"""`python -m hyperoracle_server` is `hyperoracle serve` where the client is not installed.

`python -m hyperoracle_server db ...` is `hyperoracle db ...`: images and units back up with it.
"""

import argparse
import io
import sys

from hyperoracle_server.commands import db, serve

parser = argparse.ArgumentParser(prog="python -m hyperoracle_server")
commands = parser.add_subparsers()
serve.register(commands)
db.register(commands)
for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):  # a path may have what the terminal's encoding lacks
        stream.reconfigure(errors="backslashreplace")
given = sys.argv[1:]
arguments = parser.parse_args(given if given[:1] == ["db"] else ["serve", *given])
try:
    sys.exit(arguments.run(arguments))
except KeyboardInterrupt:  # Ctrl-C, after all that is under way has ended
    sys.exit(130)
