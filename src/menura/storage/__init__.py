"""Where data is kept: the database and the object store."""
