"""What a recommender has to beat. Each baseline scores the same cases as the model, on training data alone."""
