"""One file for each source of data; each gives a `lsm.encode.Dataset`."""
