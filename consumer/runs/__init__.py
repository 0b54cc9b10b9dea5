"""One run of the daemon or of a job: what it did, kept in a history, told to who wants to know, reported at the end."""
