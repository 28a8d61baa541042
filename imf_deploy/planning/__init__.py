"""Plans: the price of students and of all their products, before one of them is trained."""
