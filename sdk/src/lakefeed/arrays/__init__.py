"""Matrices with annotated rows: .h5ad files of AnnData, read by their chunks."""
