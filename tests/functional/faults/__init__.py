"""Every part may die: real daemons, real kills, and what the packets say of it."""
