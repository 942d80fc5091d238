"""The mathematics: one file a family, each op a page (formula, reference, gradient, operation, kernel launcher)."""
