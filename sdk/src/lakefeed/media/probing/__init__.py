"""How the statistics of each media type are read from an open file.

These modules run in the processes that `lakefeed.media.probes` starts, which is why they are light: they import the
library of their type, `lakefeed.errors`, and nothing else of lakefeed. A function ``load``, if the module has one,
imports that library: a process calls it before the clock of its first file starts.
"""
