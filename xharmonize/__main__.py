"""`python -m xharmonize` is the command line."""

from xharmonize.cli.start import main

if __name__ == "__main__":
    main()
