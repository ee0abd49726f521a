"""A model of supervision, and the real thing beside it: see test_supervisor_model."""
