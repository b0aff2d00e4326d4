"""Tests: `unit` needs neither root nor services, `functional` needs both, `fleet` has thousands of agents."""
