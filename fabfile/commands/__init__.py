"""One verb, one module: the recipe of each."""
