"""Training: recipe, losses, schedule and the loop. Needs torch."""
