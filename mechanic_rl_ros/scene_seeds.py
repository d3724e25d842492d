"""Which scene seeds are for what, so that nothing is judged in a scene that it has practised."""

SEEDS_PER_RUN = 10_000
LARGEST_SEED = 39  # of a run: its scenes are 10 000 seed ... 10 000 seed + 9 999; those from 400 000 on belong to demonstrations and evaluation

EVALUATION_SEED = 1_000_000
"""First scene seed of evaluations. Nothing is ever chosen by looking at scenes from here on."""
