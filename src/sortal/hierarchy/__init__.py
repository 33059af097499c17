"""Labels that form a tree: where the tree comes from, what a network puts out for it, and what follows for probabilities and decisions."""
