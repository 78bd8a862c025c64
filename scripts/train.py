import sys

from llmrec.commands.main import run

if __name__ == "__main__":
    sys.exit(run("train", sys.argv[1:]))
