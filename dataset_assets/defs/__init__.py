"""The declarations of the team: one file for each dataset, with its ingestion, routines and checks."""
