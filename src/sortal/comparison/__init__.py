"""`sortal compare`: several methods on one split, as a matrix of resumable runs, with tests and a recommendation."""
