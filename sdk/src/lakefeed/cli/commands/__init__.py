"""The commands: ``ls_command.py`` holds the command ``lakefeed ls``, as a function ``ls_command``.

``tree_ls_command.py`` holds ``lakefeed tree ls``; see `lakefeed.cli.command_groups`.
"""
