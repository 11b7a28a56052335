"""The command line `lakefeed`. A command is a file in `lakefeed.cli.commands`, which is imported when it runs."""
