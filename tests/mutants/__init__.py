"""Seeded defects: small wrong changes of the code, each of which a named test must catch."""
