"""Doors to other packages. Importing this imports none of them."""
