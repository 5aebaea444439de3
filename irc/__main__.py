"""`python -m irc` is the `irc` command."""

from irc.cli import main

if __name__ == "__main__":
    main()
