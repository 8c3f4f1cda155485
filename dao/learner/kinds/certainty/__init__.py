"""What kinds say beside their answers: probabilities that can be scaled, sets and intervals."""
