"""Files: pictures, downloads, locks."""
