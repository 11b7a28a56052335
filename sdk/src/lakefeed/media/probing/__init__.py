"""Functions that read the statistics of each media type from an open file.

These modules run in the processes that `lakefeed.media.probes` starts. To start fast they import only the library of
their type, `lakefeed.errors` and `lakefeed._units`. A function ``load``, if the module has one, imports that library.
The process calls it before the timeout of its first file starts.
"""
