"""Files: pictures, downloads, locks, digests; and where to compute."""
