"""Where bytes live: blobs named by their SHA-256."""
