"""The commands: ``ls_command.py`` holds the command ``lakefeed ls``, as a function ``ls_command``."""
