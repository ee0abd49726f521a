"""Ready-made servers, written with the public face only: use them, or read them as examples."""
