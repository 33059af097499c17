"""From files to texts and labels: reading, the label space, splits. Imports neither torch nor transformers."""
