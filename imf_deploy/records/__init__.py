"""One typed record for each kind of file: what it is, where it comes from, and what was measured of it."""
