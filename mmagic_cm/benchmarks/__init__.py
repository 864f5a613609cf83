"""How fast sampling and training are, against other implementations in the same process."""
