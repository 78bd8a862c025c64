import sys

from llmrec.commands.main import run

if __name__ == "__main__":
    sys.exit(run("fit", sys.argv[1:]))
