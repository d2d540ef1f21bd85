"""Rounds: loop, aggregation strategies, what follows a round."""
