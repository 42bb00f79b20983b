"""Who may do what: tokens and their scopes, grants for one upload, signed URLs. Records are kept elsewhere."""
