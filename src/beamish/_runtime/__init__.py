"""The runtime: processes, mailboxes, exit signals, timers and the scheduler of one event loop. Private: see `architecture.md`."""
