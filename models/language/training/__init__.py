"""How language models are trained: one loop for every task, and what it may be told to do."""
