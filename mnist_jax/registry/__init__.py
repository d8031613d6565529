"""Names, versions and origins of models; model files; and predictions with them."""
