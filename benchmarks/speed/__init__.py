"""Fine-tuning and prediction beside the scripts people use today; see ``__main__``."""
