"""What may break, broken: real processes, real kills, counted packets."""
