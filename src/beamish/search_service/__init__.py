"""A ready search service: full-text search over a folder or Python's own documentation, behind a search cache."""
