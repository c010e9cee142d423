"""`python -m hyperoracle_server` is `hyperoracle serve` where the client is not installed."""

import argparse
import sys

from hyperoracle_server.commands import serve

parser = argparse.ArgumentParser(prog="python -m hyperoracle_server")
serve.register(parser.add_subparsers())
arguments = parser.parse_args(["serve", *sys.argv[1:]])
sys.exit(arguments.run(arguments))
