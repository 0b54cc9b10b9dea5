"""Fuzz: whatever comes, the process lives on, and each record is in the table or among the dead letters, once."""
