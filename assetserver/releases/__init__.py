"""Releases: what a site was, is and may become again. An immutable tree, named by the digest of its manifest."""
