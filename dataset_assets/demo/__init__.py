"""The demo: real handwritten digits from files to a trained model, through a real Dagster (``make demo``)."""
