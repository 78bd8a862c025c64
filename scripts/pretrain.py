import sys

from llmrec.commands.main import run

if __name__ == "__main__":
    sys.exit(run("pretrain", sys.argv[1:]))
