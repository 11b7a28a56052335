"""What a team declares: one file a dataset, with its ingestion, routines and checks. All of it is collected."""
