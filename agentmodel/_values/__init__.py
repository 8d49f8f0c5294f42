"""Values from outside, checked and cleaned once, where they enter: texts, counts, names, categories, outcomes, URLs."""
