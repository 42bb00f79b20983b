"""Pictures in several sizes and formats: what is known of them, how they are called, described and stored. Made elsewhere."""
