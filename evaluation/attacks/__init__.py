"""What an attacker learns from a trained model or an update."""
