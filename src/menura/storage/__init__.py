"""Where things rest: the database and the object store."""
