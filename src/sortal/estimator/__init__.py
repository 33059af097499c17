"""A scikit-learn classifier over the same training, decisions and model folders as everything else in Sortal."""
