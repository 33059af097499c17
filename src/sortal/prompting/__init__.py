"""Prompts with labels as answers: one renderer for training and serving, a trie of the answers, exact scores."""
