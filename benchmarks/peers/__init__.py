"""The same small programs written with other libraries, each run in an environment of its own."""
