"""`python -m xharmonize` is the command line."""

from xharmonize.cli.app import main

if __name__ == "__main__":
    main()
