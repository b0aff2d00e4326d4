"""What may break breaks here: real processes, real kills, real packets meanwhile."""
