"""Tests against real Open vSwitch, RabbitMQ, databases and Mininet; root only."""
