"""The whole job in memory and from file to file; each function reads like a paper's method section."""
